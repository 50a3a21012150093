"""The ASGI application: puts the parts together, declares the routes, mounts Chainlit at /."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import chainlit.server as chainlit_server
from fastapi import Depends, FastAPI, Request
from prometheus_client import CollectorRegistry
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.responses import Response

from app import __version__
from app.account_errors import AccountError
from app.api.bodies import BoundedBodies
from app.api.cors import ApiCors
from app.api.depth import ShallowJson
from app.api.docs import DESCRIPTION, add_docs
from app.api.guard import BEARER, Guard
from app.api.health import health_routes
from app.api.me import nobodys_routes
from app.api.metrics import metrics_routes
from app.api.native import native_routes
from app.api.native_facts import Known, fact_routes
from app.api.openai import openai_routes
from app.api.programs import Defaults, Programs
from app.api.refused import Refused, account_refusal, refusal
from app.api.unknown import add_error_forms, broken
from app.assembly.answering import answering
from app.assembly.kept import Kept
from app.chat import Ended
from app.default_model import OLLAMA, VLLM
from app.keys import Keys
from app.metrics import watch_storage
from app.page.callbacks import Page
from app.page.closed import ClosedPaths
from app.page.cross_site import CrossSite
from app.page.data_layer import ChatDataLayer
from app.page.forgetful import ForgetfulStore
from app.page.headers import SecurityHeaders
from app.page.html import local_html
from app.page.login import by_cookie, by_sign_in
from app.page.open_pages import OpenPages
from app.page.owned import owned_routes
from app.page.preferences import Preferences
from app.page.sockets import SocketGuard
from app.page.standing import Standing, nobodys
from app.page.token_check import TokenCheck
from app.page.visitor import VisitorCookie
from app.request_ids import RequestIds
from app.request_log import RequestLog
from app.settings import Settings
from app.stats import Stats
from app.storage.problems import DatabaseAway
from app.storage.requests import Requests
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
    request_log: RequestLog | None = None
    stats = Stats(settings.stats_replies)
    on_end = [stats.add]
    if kept is not None and settings.history:
        store = kept.data_layer()
        if settings.request_log:
            text_bytes = settings.log_text_max_bytes if settings.log_text else 0
            request_log = kept.request_log = RequestLog(Requests(kept.database), text_bytes=text_bytes)
            on_end.append(request_log.add)
    if settings.log_text:
        log.info(
            "STATS %s",
            "LOG_TEXT=on: what people say is kept in the log of requests"
            if request_log is not None
            else "LOG_TEXT=on changes nothing: it needs REQUEST_LOG and HISTORY",
        )

    def ended(reply: Ended) -> None:
        for listener in on_end:
            listener(reply)

    chat.on_end = ended
    unsaved = store.unsaved
    registry = CollectorRegistry()
    if unsaved is not None:
        watch_storage(
            registry,
            unsaved=lambda: unsaved.waiting,
            lost=lambda: store.failed_writes,
            up=lambda: unsaved.away_since is None,
        )
    preferences = Preferences(
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        top_p=settings.top_p,
        system_prompt=settings.system_prompt,
    )
    page = Page(chat, finder, store, preferences, settings.away_seconds, settings.store_seconds)
    page.register()
    pages = OpenPages(chainlit_server.sio, standing, page.end)
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
        work = [finder.run(), pages.run()]
        if kept is not None:
            work.append(kept.retention(page).run())
            if request_log is not None:
                work.append(stats.recall(Requests(kept.database).since))
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
            if request_log is not None:
                await request_log.close()
            await answers.close()
            await windows.close()
            if database is not None:
                await database.close()

    async def wind_up(seconds: float) -> None:
        await asyncio.gather(page.wind_up(seconds), programs.wind_up(seconds))

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
    app.state.wind_up = wind_up
    app.state.visitors = kept.visitors if kept is not None else None
    app.state.login = settings.login
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
    app.include_router(metrics_routes(registry, settings.metrics_token), include_in_schema=False)
    app.include_router(owned_routes(store), include_in_schema=False)
    for routes in kept.routes(page, pages) if kept is not None else [nobodys_routes()]:
        app.include_router(routes, include_in_schema=False)
    guards = [Depends(BEARER)] if settings.guarded else []
    app.include_router(openai_routes(programs, build=__version__, max_batch=settings.max_batch, guards=guards))
    app.include_router(native_routes(programs, finder, max_batch=settings.max_batch, guards=guards))
    known = Known(chat.catalog, finder, answers.versions, stats, lambda: answers.device)
    app.include_router(fact_routes(known, settings, guards=guards))
    add_docs(app)
    add_error_forms(app)

    async def database_away(request: Request, problem: Exception) -> Response:
        """What a visitor asks of the database itself: the list, an old conversation, a new name, a thumb."""
        log.error("STORE %s %s not answered: %s", request.method, request.url.path, problem)
        return await refusal(request, Refused("database_away"))

    for part in (app, chainlit_server.app):
        part.add_exception_handler(DatabaseAway, database_away)
    app.add_exception_handler(Refused, refusal)
    app.add_exception_handler(AccountError, account_refusal)

    page_template = chainlit_server.get_html_template
    chainlit_server.get_html_template = lambda root_path: local_html(page_template(root_path))
    app.mount("/", chainlit_server.app)
    app.add_middleware(ShallowJson, most=settings.max_json_depth)
    if settings.guarded:
        app.add_middleware(Guard, keys=Keys(settings.keys), login=settings.login, tries=tries)
    app.add_middleware(TokenCheck, standing=standing)
    app.add_middleware(VisitorCookie, lasting=settings.history)
    app.add_middleware(SocketGuard, sio=chainlit_server.sio)
    app.add_middleware(BoundedBodies, most=settings.max_body_bytes, most_of_sockets=2 * settings.max_message_bytes)
    app.add_middleware(CrossSite, origins=settings.origins)
    app.add_middleware(ClosedPaths)
    # As a handler of the app's it would answer outside of the headers.
    app.add_middleware(ServerErrorMiddleware, handler=broken)
    if settings.origins:
        app.add_middleware(ApiCors, origins=settings.origins)
    app.add_middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors)
    app.add_middleware(RequestIds)
    return app
