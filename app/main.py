"""The ASGI application: builds the parts, declares the routes, mounts Chainlit at /."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

import chainlit.server as chainlit_server
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from app.account_errors import AccountError
from app.api.auth import auth_routes
from app.api.devices import Bounds, device_routes
from app.api.health import health_routes
from app.api.me import Belongings, me_routes
from app.api.my_data import data_routes
from app.api.refused import Refused, account_refusal, malformed, refusal
from app.chat import Chat
from app.default_model import DefaultModelFinder, Wishes
from app.engines.base import Engine, ModelInfo
from app.engines.catalog import Catalog
from app.engines.hub import Hub
from app.engines.local import LocalEngine
from app.engines.ollama import OllamaEngine
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.engines.speeds import SpeedBook
from app.page.callbacks import Page
from app.page.closed import ClosedPaths
from app.page.cross_site import CrossSite
from app.page.data_layer import ChatDataLayer
from app.page.headers import SecurityHeaders
from app.page.html import local_html
from app.page.login import by_cookie, by_sign_in, login_routes
from app.page.open_pages import OpenPages
from app.page.owned import owned_routes
from app.page.preferences import Preferences
from app.page.small_bodies import SmallBodies
from app.page.sockets import SocketGuard
from app.page.standing import Standing
from app.page.token_check import TokenCheck
from app.page.visitor import VisitorCookie
from app.passwords import Passwords
from app.settings import GUIDE_DIR, Settings
from app.sign_in import SignIn
from app.storage.accounts import Accounts
from app.storage.database import Database
from app.storage.devices import Devices
from app.storage.problems import DatabaseAway
from app.storage.retention import Retention
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from app.tokens import TokenEstimator, bytes_estimate, tiktoken_estimate
from app.tries import Tries
from app.why import explain

log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The whole server, ready for an ASGI runner.

    Chainlit's environment has to be set before this module is imported; see `server`.
    """
    speeds = SpeedBook()
    hub = Hub()
    ollama = OllamaEngine(
        settings.ollama_host,
        num_batch=settings.num_batch,
        num_thread=settings.num_thread,
        keep_alive=settings.keep_alive,
        timeout=settings.timeout,
        load_timeout=settings.load_timeout,
        models_timeout=settings.models_timeout,
        speeds=speeds,
        slots=settings.slots or 1,
        memory=settings.model_memory,
    )
    engines: list[Engine] = [ollama]
    if settings.vllm_url:
        engines.append(
            OpenAICompatibleEngine(
                settings.vllm_url,
                api_key=settings.vllm_api_key,
                timeout=settings.timeout,
                load_timeout=settings.load_timeout,
                models_timeout=settings.models_timeout,
                speeds=speeds,
            )
        )
    local = find_spec("torch") is not None and find_spec("transformers") is not None
    if local:
        engines.append(
            LocalEngine(
                GUIDE_DIR,
                settings.local_models,
                device=settings.device,
                caches=settings.local_caches,
                timeout=settings.timeout,
                speeds=speeds,
                hub=hub,
            )
        )
    catalog = Catalog(
        engines,
        aliases=settings.aliases,
        max_age=settings.models_cache_seconds,
        timeout=settings.models_timeout,
        num_ctx=settings.num_ctx,
    )
    chat = Chat(
        catalog,
        speeds=speeds,
        estimator=TokenEstimator(tiktoken_estimate(settings.tiktoken_cache_dir) or bytes_estimate),
        slots=settings.slots,
        max_waiting=settings.max_waiting,
        max_message_bytes=settings.max_message_bytes,
        window_low=settings.window_low,
        fallback_model=settings.fallback_model,
    )

    async def load(model: ModelInfo) -> None:
        await catalog.engine_of(model).load(model.name, catalog.context_length(model))

    wishes = Wishes(
        model=settings.model,
        ollama_models=settings.ollama_models,
        qwen_models=settings.local_models,
        ollama_url=settings.ollama_host,
        vllm_url=settings.vllm_url,
        local=local,
        pulled=settings.pulled_models,
        ollama_wait=settings.ollama_wait,
        keeps=settings.keep_alive.startswith("-"),
    )
    finder = DefaultModelFinder(
        wishes,
        catalog,
        pull=ollama.pull,
        download=hub.download if local else None,
        load=load if settings.preload else None,
        settled_poll=settings.models_cache_seconds,
    )
    url = settings.database_url
    database = Database(url.get_secret_value()) if url else Database.in_folder(settings.data_dir)
    threads, visitors = Threads(database), Visitors(database)
    accounts, devices = Accounts(database), Devices(database)
    login = settings.passwords or settings.oauth
    store = ChatDataLayer(threads, visitors, login=login)
    standing = Standing(devices.owner_of, accounts.rights if login else None)
    tries = Tries(settings.login_tries, settings.login_tries_seconds)
    sign_in = SignIn(accounts, Passwords(), tries, settings.password_min) if settings.passwords else None
    preferences = Preferences(
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        top_p=settings.top_p,
        system_prompt=settings.system_prompt,
    )
    page = Page(chat, finder, store, preferences, settings.away_seconds)
    page.register()
    retention = Retention(
        database,
        days=settings.history_days,
        most_bytes=settings.history_max_mb * 1024 * 1024,
        log_days=settings.request_log_days,
        answering=page.answering,
        present=page.present,
    )
    pages = OpenPages(chainlit_server.sio, standing, page.end)
    if login:
        allowed = settings.oauth_names if settings.oauth else None
        by_sign_in(accounts, pages, password=settings.passwords, allowed=allowed, days=settings.session_days)
    else:
        by_cookie(standing)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        said = ""

        def say() -> None:
            nonlocal said
            words = explain(finder.current, wishes, "en")
            if finder.current.download is None and words.text != said:
                said = words.text
                log.info("MODELS %s %s", words.text, " ".join(words.details))

        finder.on_change(say)
        if sign_in is not None:
            await sign_in.tell_if_nobody()
        tasks = {
            asyncio.create_task(finder.run()),
            asyncio.create_task(pages.run()),
            asyncio.create_task(retention.run()),
        }
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)
            await page.close()
            for engine in engines:
                await engine.close()
            await database.close()

    app = FastAPI(title="chainlit-ollama", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    app.state.database = database
    app.state.wind_up = page.wind_up
    app.state.visitors = visitors
    app.state.login = login
    app.include_router(health_routes(finder))
    app.include_router(owned_routes(store))
    if sign_in is not None:
        app.include_router(login_routes(sign_in))
    belongings = Belongings(threads, visitors)
    signup = settings.passwords and settings.signup
    bounds = Bounds(settings.link_days, settings.max_links, settings.max_devices)
    app.include_router(auth_routes(accounts, sign_in, standing, pages, signup=signup))
    app.include_router(
        me_routes(
            accounts,
            visitors,
            devices,
            belongings,
            login=login,
            signup=signup,
            password_min=settings.password_min,
            history=True,
        )
    )
    app.include_router(device_routes(devices, belongings, standing, pages, tries, bounds))
    app.include_router(
        data_routes(
            database,
            settings.data_dir,
            standing,
            pages,
            stop_replies=page.stop_replies,
            history=True,
            most=settings.import_max_mb,
        )
    )

    @app.api_route("/api/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    @app.api_route("/v1/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def unknown_path(request: Request, path: str) -> JSONResponse:
        """Chainlit would answer any unknown path with its page."""
        return JSONResponse({"detail": f"Not found: {request.url.path}"}, status_code=404)

    async def database_away(request: Request, problem: Exception) -> JSONResponse:
        """What a visitor asks of the database itself: the list, an old conversation, a new name, a thumb."""
        log.error("STORE %s %s not answered: %s", request.method, request.url.path, problem)
        return await refusal(request, Refused("database_away"))

    for part in (app, chainlit_server.app):
        part.add_exception_handler(DatabaseAway, database_away)
    app.add_exception_handler(Refused, refusal)
    app.add_exception_handler(AccountError, account_refusal)
    app.add_exception_handler(RequestValidationError, malformed)

    page_template = chainlit_server.get_html_template
    chainlit_server.get_html_template = lambda root_path: local_html(page_template(root_path))
    app.mount("/", chainlit_server.app)
    app.add_middleware(TokenCheck, standing=standing)
    app.add_middleware(VisitorCookie)
    app.add_middleware(SocketGuard, sio=chainlit_server.sio)
    app.add_middleware(SmallBodies)
    app.add_middleware(CrossSite)
    app.add_middleware(ClosedPaths)
    app.add_middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors)
    return app
