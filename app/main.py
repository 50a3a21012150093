"""The ASGI application: puts the parts together, declares the routes, mounts Chainlit at /."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import chainlit.server as chainlit_server
from fastapi import Depends, FastAPI

from app import __version__
from app.api.dashboard import dashboard_routes
from app.api.debug import debug_routes
from app.api.docs import DESCRIPTION, add_docs
from app.api.guard import BEARER
from app.api.health import health_routes, refreshing
from app.api.me import nobodys_routes
from app.api.metrics import metrics_routes
from app.api.native import native_routes
from app.api.native_facts import Known, fact_routes
from app.api.openai import openai_routes
from app.api.programs import Defaults, Programs
from app.api.unknown import add_error_forms
from app.assembly.answering import answering
from app.assembly.counting import counting
from app.assembly.dashboard import dashboard
from app.assembly.kept import Kept
from app.assembly.layers import add_layers, add_refusals
from app.assembly.measuring import empty_registry, measure_http, measure_server
from app.default_model import OLLAMA, VLLM
from app.machine import in_a_container
from app.page.callbacks import Page
from app.page.data_layer import ChatDataLayer
from app.page.forgetful import ForgetfulStore
from app.page.html import local_html
from app.page.login import by_cookie, by_sign_in
from app.page.open_pages import OpenPages
from app.page.owned import owned_routes
from app.page.preferences import Preferences
from app.page.standing import Standing, nobodys
from app.settings import Settings
from app.tries import Tries
from app.why import explain
from app.windows import Windows

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The whole server, ready for an ASGI runner.

    Chainlit's environment has to be set before this module is imported; see `server`.
    """
    windows = Windows(settings.rate_limit_storage)
    tries = Tries(settings.login_tries, settings.login_tries_seconds, windows)
    answers = answering(settings, windows)
    chat, finder = answers.chat, answers.finder
    kept = Kept(settings, tries, windows) if settings.uses_database else None
    database = kept.database if kept is not None else None
    standing = kept.standing if kept is not None else Standing(nobodys, None)
    store: ChatDataLayer | ForgetfulStore = ForgetfulStore()
    if kept is not None and settings.history:
        store = kept.data_layer()
    registry = empty_registry()
    counted = counting(settings, chat, kept, registry)
    unsaved = store.unsaved
    preferences = Preferences(
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        top_p=settings.top_p,
        system_prompt=settings.system_prompt,
    )
    page = Page(chat, finder, store, preferences, settings.away_seconds, settings.store_seconds)
    page.register()
    pages = OpenPages(chainlit_server.sio, standing, page.end)
    measure_server(registry, answers, database, store, open_pages=lambda: pages.count, data_dir=settings.data_dir)
    drawn, samples = dashboard(answers, counted, kept, store, open_pages=lambda: pages.count)
    if kept is not None and settings.login:
        allowed = settings.oauth_names if settings.oauth else None
        by_sign_in(kept.accounts, pages, password=settings.passwords, allowed=allowed, days=settings.session_days)
    else:
        by_cookie(standing)
    programs = Programs(
        chat,
        Defaults(settings.temperature, settings.top_p, settings.max_tokens),
        comment_seconds=settings.stream_comment_seconds,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        said = ""

        def say() -> None:
            nonlocal said
            words = explain(finder.current, finder.wishes, "en")
            if finder.current.download is None and words.text != said:
                said = words.text
                log.info("MODELS %s %s", words.text, " ".join(words.details))

        finder.on_change(say)
        work = [finder.run(), pages.run(), samples.run()]
        if answers.speeds is not None:
            work.append(answers.speeds.run())
        if kept is not None:
            work.append(kept.retention(page).run())
            if counted.recall is not None:
                work.append(counted.recall())
            if kept.sign_in is not None:
                await kept.sign_in.tell_if_nobody()
        tasks = {asyncio.create_task(task) for task in work}
        if database is not None and unsaved is not None:
            database.on_away = unsaved.wake
            unsaved.wake()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)
            await page.close()
            if unsaved is not None:
                await unsaved.close(settings.stop_seconds)
            if counted.request_log is not None:
                await counted.request_log.close()
            await answers.close()
            await windows.close()
            if database is not None:
                await database.close()

    async def wind_up(seconds: float) -> None:
        await asyncio.gather(page.wind_up(seconds), programs.wind_up(seconds))

    def end_if_broken(end: Callable[[str], None]) -> None:
        """Have `end` called with what is wrong with the model of CHECKPOINT, where only loading it tells."""

        def look() -> None:
            if problem := answers.broken_checkpoint:
                end(problem)

        finder.on_change(look)

    app = FastAPI(
        title="chainlit-ollama",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    app.state.database = database
    app.state.end_if_broken = end_if_broken
    app.state.wind_up = wind_up
    app.state.visitors = kept.visitors if kept is not None else None
    app.state.login = settings.login
    refresh = refreshing(chat.catalog, database, settings.models_cache_seconds)
    app.include_router(
        health_routes(
            chat,
            finder,
            database,
            unsaved,
            lost=lambda: store.failed_writes,
            urls={OLLAMA: finder.wishes.ollama_url, VLLM: finder.wishes.vllm_url},
            missed=lambda engine: engine.ever_up or engine.name != OLLAMA or "ollama_host" in settings.model_fields_set,
            max_age=settings.models_cache_seconds,
        )
    )
    app.include_router(metrics_routes(registry, settings.metrics_token, refresh), include_in_schema=False)
    app.include_router(debug_routes(chat, settings.metrics_token), include_in_schema=False)
    app.include_router(dashboard_routes(drawn, standing, in_a_container=in_a_container()), include_in_schema=False)
    app.include_router(owned_routes(store), include_in_schema=False)
    for routes in kept.routes(page, pages) if kept is not None else [nobodys_routes()]:
        app.include_router(routes, include_in_schema=False)
    guards = [Depends(BEARER)] if settings.guarded else []
    app.include_router(openai_routes(programs, build=__version__, max_batch=settings.max_batch, guards=guards))
    app.include_router(native_routes(programs, finder, max_batch=settings.max_batch, guards=guards))
    known = Known(chat.catalog, finder, answers.versions, counted.stats, lambda: answers.device)
    app.include_router(fact_routes(known, settings, guards=guards))
    add_docs(app)
    add_error_forms(app)

    add_refusals(app)
    page_template = chainlit_server.get_html_template
    chainlit_server.get_html_template = lambda root_path: local_html(page_template(root_path))
    app.mount("/", chainlit_server.app)
    add_layers(app, settings, standing, tries)
    measure_http(registry, app)
    return app
