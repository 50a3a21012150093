"""The ASGI application: builds the parts, declares the routes, mounts Chainlit at /."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

import chainlit.server as chainlit_server
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry

from app.api.health import health_routes
from app.api.metrics import metrics_routes
from app.chat import Chat
from app.default_model import DefaultModelFinder, Wishes
from app.engines.base import Engine, ModelInfo
from app.engines.catalog import Catalog
from app.engines.hub import Hub
from app.engines.local import LocalEngine
from app.engines.ollama import OllamaEngine
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.engines.speeds import SpeedBook
from app.metrics import watch_storage
from app.page.callbacks import Page
from app.page.closed import ClosedPaths
from app.page.data_layer import ChatDataLayer
from app.page.forgetful import ForgetfulStore
from app.page.headers import SecurityHeaders
from app.page.html import local_html
from app.page.owned import owned_routes
from app.page.preferences import Preferences
from app.page.sockets import SocketGuard
from app.page.visitor import VisitorCookie
from app.request_log import RequestLog
from app.settings import GUIDE_DIR, Settings
from app.storage.database import Database
from app.storage.problems import DatabaseAway
from app.storage.requests import Requests
from app.storage.threads import Threads
from app.storage.unsaved import Unsaved
from app.storage.visitors import Visitors
from app.tokens import TokenEstimator, bytes_estimate, tiktoken_estimate
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
    database: Database | None = None
    if settings.uses_database:
        database = Database(url.get_secret_value()) if url else Database.in_folder(settings.data_dir)
    store: ChatDataLayer | ForgetfulStore = ForgetfulStore()
    request_log: RequestLog | None = None
    if database is not None and settings.history:
        store = _kept(database, settings)
        if settings.request_log:
            request_log = RequestLog(Requests(database))
            chat.on_end = request_log.add
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
        search = asyncio.create_task(finder.run())
        if database is not None and unsaved is not None:
            database.on_away = unsaved.wake
            unsaved.wake()
        try:
            yield
        finally:
            search.cancel()
            await asyncio.wait({search}, timeout=1)
            await page.close()
            if unsaved is not None:
                await unsaved.close(settings.stop_seconds)
            if request_log is not None:
                await request_log.close()
            for engine in engines:
                await engine.close()
            if database is not None:
                await database.close()

    app = FastAPI(title="chainlit-ollama", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    app.state.database = database
    app.state.wind_up = page.wind_up
    app.include_router(health_routes(finder, unsaved, lost=lambda: store.failed_writes))
    app.include_router(metrics_routes(registry, settings.metrics_token))
    app.include_router(owned_routes(store))

    @app.api_route("/api/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    @app.api_route("/v1/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def unknown_path(request: Request, path: str) -> JSONResponse:
        """Chainlit would answer any unknown path with its page."""
        return JSONResponse({"detail": f"Not found: {request.url.path}"}, status_code=404)

    async def database_away(request: Request, problem: Exception) -> JSONResponse:
        """What a visitor asks of the database itself: the list, an old conversation, a new name, a thumb."""
        log.error("STORE %s %s not answered: %s", request.method, request.url.path, problem)
        return JSONResponse({"detail": "The database is away. Try again in a while."}, status_code=503)

    for part in (app, chainlit_server.app):
        part.add_exception_handler(DatabaseAway, database_away)

    page_template = chainlit_server.get_html_template
    chainlit_server.get_html_template = lambda root_path: local_html(page_template(root_path))
    app.mount("/", chainlit_server.app)
    app.add_middleware(VisitorCookie, lasting=settings.history)
    app.add_middleware(SocketGuard, sio=chainlit_server.sio)
    app.add_middleware(ClosedPaths)
    app.add_middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors)
    return app


def _kept(database: Database, settings: Settings) -> ChatDataLayer:
    """Where conversations are kept."""
    threads, visitors = Threads(database), Visitors(database)
    unsaved = Unsaved(threads, visitors, max_bytes=settings.unsaved_max_mb * 1024 * 1024, patience=settings.store_wait)
    return ChatDataLayer(threads, visitors, unsaved)
