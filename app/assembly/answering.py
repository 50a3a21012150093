"""Everything that answers: the engines, which models they have, which of them is the default, and the way of a turn."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import httpx
from limits import parse_many

from app.chat import Chat
from app.default_model import DefaultModelFinder, Wishes
from app.engines.base import Engine, ModelInfo
from app.engines.catalog import Catalog
from app.engines.checkpoint import Checkpoint, open_checkpoint
from app.engines.checkpoint_files import CheckpointError
from app.engines.hub import Hub
from app.engines.local import LocalEngine
from app.engines.ollama import OllamaEngine
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.engines.speed_file import SpeedFile
from app.engines.speeds import SpeedBook
from app.errors import CheckpointBroken
from app.memory_guard import MemoryGuard
from app.rates import Rates
from app.settings import GUIDE_DIR, Settings
from app.tokens import TokenEstimator, bytes_estimate, tiktoken_estimate
from app.versions import Versions
from app.windows import Windows

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answering:
    """What answers.

    Attributes:
        chat: makes every reply.
        finder: knows the default model.
        engines: those that are set up, also while they are away.
        versions: of them.
        speeds: where those of the models are kept; None: nothing is.
        checkpoint: the trained model that is to be served; None: none is.
    """

    chat: Chat
    finder: DefaultModelFinder
    engines: tuple[Engine, ...]
    versions: Versions
    speeds: SpeedFile | None
    checkpoint: Checkpoint | None

    @property
    def device(self) -> str | None:
        """Where models run in this process; None: they do not."""
        return next((engine.device for engine in self.engines if isinstance(engine, LocalEngine)), None)

    @property
    def broken_checkpoint(self) -> str:
        """What is wrong with the trained model, where only loading it could tell; empty: nothing that is known."""
        problem = self.finder.current.unfit
        if self.checkpoint is None or not isinstance(problem, CheckpointBroken):
            return ""
        detail = problem.facts.get("detail")
        return f"the model in {self.checkpoint.folder} cannot be loaded ({detail}). Take another checkpoint"

    async def close(self) -> None:
        """End what they do, keep what was learned, and give back what the engines hold."""
        await self.chat.ahead.close()
        if self.speeds is not None:
            await self.speeds.write()
        for engine in self.engines:
            await engine.close()


def answering(settings: Settings, windows: Windows) -> Answering:
    """Put it together; nobody is asked anything yet.

    Args:
        settings: of the server.
        windows: count how often each asks.

    Raises:
        CheckpointError: there is none at CHECKPOINT that could be served.
    """
    speeds = SpeedBook()
    kept = SpeedFile(speeds, settings.data_dir) if settings.uses_database else None
    if kept is not None:
        kept.read()
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
        slots=settings.ollama_slots,
        memory=settings.model_memory,
        cache_mib=settings.llama_arg_cache_ram,
        moves_cache=settings.llama_arg_cache_reuse > 0,
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
    checkpoint = None if settings.checkpoint is None else _checkpoint(settings.checkpoint, local=local)
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
                checkpoint=checkpoint,
            )
        )
    catalog = Catalog(
        engines,
        aliases=settings.aliases,
        max_age=settings.models_cache_seconds,
        timeout=settings.models_timeout,
        num_ctx=settings.num_ctx,
        unasked=() if settings.wants_ollama else {ollama.name},
    )
    chat = Chat(
        catalog,
        speeds=speeds,
        estimator=TokenEstimator(tiktoken_estimate(settings.tiktoken_cache_dir) or bytes_estimate),
        slots=settings.slots,
        max_waiting=settings.max_waiting,
        max_waiting_each=settings.max_waiting_each,
        max_wait=settings.max_wait,
        max_message_bytes=settings.max_message_bytes,
        max_messages=settings.max_messages,
        rates=Rates(parse_many(settings.rate_limit) if settings.rate_limit else (), windows),
        window_low=settings.window_low,
        fallback_model=settings.fallback_model,
        ahead_on=settings.ahead_on,
        ahead_step=settings.read_ahead_step,
        memory_short=MemoryGuard(settings.memory_guard).short,
    )

    async def load(model: ModelInfo) -> None:
        await catalog.engine_of(model).load(model.name, catalog.context_length(model))

    wishes = Wishes(
        model=settings.model if checkpoint is None else f"{LocalEngine.name}/{checkpoint.name}",
        ollama_models=settings.ollama_models,
        qwen_models=settings.local_models,
        ollama_url=_shown(settings.ollama_host),
        vllm_url=_shown(settings.vllm_url),
        local=local,
        pulled=settings.pulled_models,
        ollama_wait=settings.ollama_wait,
        keeps=settings.keep_alive.startswith("-"),
        checkpoint=checkpoint is not None,
    )
    finder = DefaultModelFinder(
        wishes,
        catalog,
        pull=ollama.pull,
        download=hub.download if local else None,
        load=load if settings.preload else None,
        settled_poll=settings.models_cache_seconds,
    )
    versions = Versions(catalog, max_age=settings.models_cache_seconds)
    return Answering(chat, finder, tuple(engines), versions, kept, checkpoint)


def _checkpoint(path: Path, *, local: bool) -> Checkpoint:
    checkpoint = open_checkpoint(path) if local else None
    if checkpoint is None or (checkpoint.base is not None and find_spec("peft") is None):
        raise CheckpointError(
            "the packages that run a checkpoint are missing. Install them: make install-local; "
            "in the image: docker build --build-arg WITH_TRANSFORMERS=1"
        )
    log.info("MODELS %s is served from %s", checkpoint.name, checkpoint.folder)
    return checkpoint


def _shown(url: str) -> str:
    """An address without the name and the password in it: what is shown to anybody."""
    return str(httpx.URL(url).copy_with(userinfo=b"")) if "@" in url else url
