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

from app import VERSION
from app.api.docs import DESCRIPTION, add_docs
from app.api.health import health_routes
from app.api.openai import openai_routes
from app.api.programs import Defaults, Programs
from app.api.unknown import add_error_forms
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
from app.page.data_layer import ChatDataLayer
from app.page.headers import SecurityHeaders
from app.page.html import local_html
from app.page.owned import owned_routes
from app.page.preferences import Preferences
from app.page.sockets import SocketGuard
from app.page.visitor import VisitorCookie
from app.settings import GUIDE_DIR, Settings
from app.storage.database import Database
from app.storage.problems import DatabaseAway
from app.storage.threads import Threads
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
                batch=settings.local_batch,
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
    store = ChatDataLayer(Threads(database), Visitors(database))
    preferences = Preferences(
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
        top_p=settings.top_p,
        system_prompt=settings.system_prompt,
    )
    page = Page(chat, finder, store, preferences, settings.away_seconds)
    page.register()
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
            words = explain(finder.current, wishes, "en")
            if finder.current.download is None and words.text != said:
                said = words.text
                log.info("MODELS %s %s", words.text, " ".join(words.details))

        finder.on_change(say)
        search = asyncio.create_task(finder.run())
        try:
            yield
        finally:
            search.cancel()
            await asyncio.wait({search}, timeout=1)
            await page.close()
            for engine in engines:
                await engine.close()
            await database.close()

    async def wind_up(seconds: float) -> None:
        await asyncio.gather(page.wind_up(seconds), programs.wind_up(seconds))

    app = FastAPI(
        title="chainlit-ollama",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )

    app.state.database = database
    app.state.wind_up = wind_up
    app.include_router(health_routes(finder))
    app.include_router(owned_routes(store), include_in_schema=False)
    # What guards the routes that let a model work (keys, rates) goes into `guards`.
    app.include_router(openai_routes(programs, build=VERSION, guards=()))

    add_docs(app)
    add_error_forms(app)

    async def database_away(request: Request, problem: Exception) -> JSONResponse:
        """What a visitor asks of the database itself: the list, an old conversation, a new name, a thumb."""
        log.error("STORE %s %s not answered: %s", request.method, request.url.path, problem)
        return JSONResponse({"detail": "The database is away. Try again in a while."}, status_code=503)

    for part in (app, chainlit_server.app):
        part.add_exception_handler(DatabaseAway, database_away)

    page_template = chainlit_server.get_html_template
    chainlit_server.get_html_template = lambda root_path: local_html(page_template(root_path))
    app.mount("/", chainlit_server.app)
    app.add_middleware(VisitorCookie)
    app.add_middleware(SocketGuard, sio=chainlit_server.sio)
    app.add_middleware(ClosedPaths)
    app.add_middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors)
    return app
