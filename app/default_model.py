"""Which model answers a visitor who has picked none: found out, never asked.

MODEL, if set, skips the search. Otherwise the first of these that is there:

1. the first model of VLLM_URL, if set;
2. Ollama's OLLAMA_MODEL, or its first; an Ollama without any is told to pull OLLAMA_MODEL;
3. a QWEN_MODEL through transformers, downloaded once;
4. the built-in guide, also until one of the others is ready.

The search goes on while the server runs: an Ollama that is started later is noticed. A server that has answered
and does not at the moment (it is started anew, or too busy) keeps its place: the guide could not go on with the
conversations that were held with its model.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Literal

from app.engines.base import ModelInfo, Progress
from app.engines.catalog import Catalog
from app.errors import ChatError, EngineError, EngineFailed, UnknownModel
from app.progress import DownloadBar

log = logging.getLogger(__name__)

GUIDE: Final = "guide"
OLLAMA, VLLM, TRANSFORMERS = "ollama", "vllm", "transformers"

# Engines whose models are on a server of theirs.
_SERVERS: Final = (OLLAMA, VLLM)

Reason = Literal["set", "vllm", "ollama", "qwen", "guide", "nothing"]

# A download that failed is tried again after pauses that grow up to the last of these, in seconds.
_RETRY_PAUSES: Final = (15, 60, 300, 900)
# While something better may come, the engines are looked at this often, in seconds.
_POLL: Final = 5.0


# Brings the model of that name to where an engine runs it.
Puller = Callable[[str], AsyncGenerator[Progress, None]]


@dataclass(frozen=True, slots=True)
class Download:
    """A model on its way."""

    model: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """Which model answers, and why.

    Attributes:
        model: None: none is there at all.
        reason: which step of the search found it.
        wanted: the model of MODEL, where it is not there and `model` stands in for it.
        away: why the server that runs `model` does not answer at the moment.
        ollama_up: whether an Ollama answered.
        download: what is being downloaded to answer in its place, if anything.
        problem: why the last download failed.
    """

    model: ModelInfo | None = None
    reason: Reason = "nothing"
    wanted: str = ""
    away: EngineError | None = None
    ollama_up: bool = False
    download: Download | None = None
    problem: ChatError | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the settings say about the search.

    Attributes:
        model: MODEL; empty: search.
        ollama_model: preferred, and pulled if Ollama has none.
        qwen_models: models for transformers; the first is downloaded.
        ollama_url, vllm_url: where they are looked for.
        local: whether the packages that run models here are installed.
    """

    model: str
    ollama_model: str
    qwen_models: Sequence[str]
    ollama_url: str = ""
    vllm_url: str = ""
    local: bool = True


class DefaultModelFinder:
    """Keeps `current` up to date.

    Args:
        wishes: what the settings say.
        catalog: which models there are.
        pull: tells Ollama to pull a model.
        download: downloads a model for transformers; None where its packages are not installed.
        load: called with each new default model, to start bringing it into memory; None: on first use.
        settled_poll: seconds between looks at the engines when the best choice is made.
    """

    def __init__(
        self,
        wishes: Wishes,
        catalog: Catalog,
        *,
        pull: Puller,
        download: Puller | None,
        load: Callable[[ModelInfo], None] | None = None,
        settled_poll: float = 30,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wishes = wishes
        self._catalog = catalog
        self._pull = pull
        self._download = download
        self._load = load
        self._settled_poll = settled_poll
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._look_again = asyncio.Event()
        self.current = DefaultModel()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `current` has changed."""
        self._listeners.append(listener)

    async def model(self) -> ModelInfo | None:
        """The default model; when there was none at the last look, another look is taken first."""
        if self.current.model is None:
            await self.look()
        return self.current.model

    async def run(self) -> None:
        """Search until cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except Exception:
                    log.exception("MODELS the search broke, it goes on")
                now = self.current
                settled = now.reason in ("vllm", "ollama", "set") and not now.wanted and now.away is None
                self._look_again.clear()
                try:
                    async with asyncio.timeout(self._settled_poll if settled else _POLL):
                        await self._look_again.wait()
                except TimeoutError:
                    continue
        finally:
            if self._task is not None:
                self._task.cancel()

    async def look(self) -> None:
        """Look at the engines once, choose, and start what has to be downloaded."""
        models = await self._catalog.models(fresh=True)
        ollama_up = OLLAMA in self._catalog.engines and OLLAMA not in self._catalog.problems
        choice = self._kept() or (await self._named() if self.wishes.model else self._search(models))
        wanted = self._missing(models, choice, ollama_up)
        self._set(replace(choice, ollama_up=ollama_up, download=self.current.download, problem=self.current.problem))
        if wanted and self._task is None and self._clock() >= self._retry_at:
            self._task = asyncio.create_task(self._bring(*wanted))

    def _kept(self) -> DefaultModel | None:
        """The choice made before, while the server that runs it does not answer."""
        model = self.current.model
        problem = self._catalog.problems.get(model.engine) if model and model.engine in _SERVERS else None
        return replace(self.current, away=problem) if problem else None

    async def _named(self) -> DefaultModel:
        try:
            return DefaultModel(await self._catalog.find(self.wishes.model), "set")
        except UnknownModel:
            return replace(self._search(self._catalog.known), wanted=self.wishes.model)

    def _search(self, models: Sequence[ModelInfo]) -> DefaultModel:
        by_engine: dict[str, list[ModelInfo]] = {}
        for model in models:
            by_engine.setdefault(model.engine, []).append(model)
        if VLLM in by_engine:
            return DefaultModel(by_engine[VLLM][0], "vllm")
        if OLLAMA in by_engine:
            offered = by_engine[OLLAMA]
            preferred = (model for model in offered if model.name == self.wishes.ollama_model)
            return DefaultModel(next(preferred, offered[0]), "ollama")
        local = by_engine.get(TRANSFORMERS, [])
        for model in local:
            if model.name != GUIDE:
                return DefaultModel(model, "qwen")
        return DefaultModel(local[0], "guide") if local else DefaultModel()

    def _missing(self, models: Sequence[ModelInfo], choice: DefaultModel, ollama_up: bool) -> tuple[str, Puller] | None:
        """What should be brought, and by whom."""
        if choice.away is not None:
            return None
        if choice.wanted:
            engine, _, name = choice.wanted.partition("/")
            if ollama_up and (engine == OLLAMA or not name):
                return choice.wanted.removeprefix(f"{OLLAMA}/"), self._pull
            hub_name = choice.wanted.removeprefix(f"{TRANSFORMERS}/")
            return (hub_name, self._download) if self._download and "/" in hub_name and engine not in _SERVERS else None
        if choice.reason in ("set", "vllm", "ollama"):
            return None
        if ollama_up:
            return self.wishes.ollama_model, self._pull
        if choice.reason != "qwen" and self._download and self.wishes.qwen_models:
            return self.wishes.qwen_models[0], self._download
        return None

    async def _bring(self, model: str, puller: Puller) -> None:
        """Download a model, with progress in the terminal and in `current`."""
        log.info("MODELS %s is being downloaded", model)
        try:
            with DownloadBar(model) as bar:
                async with aclosing(puller(model)) as steps:
                    async for progress in steps:
                        bar.show(progress)
                        self._set(replace(self.current, download=Download(model, progress), problem=None))
            log.info("MODELS %s is here", model)
            self._failures = 0
            self._set(replace(self.current, download=None, problem=None))
        except EngineError as problem:
            self._failed(model, problem)
        except Exception as crash:
            log.exception("MODELS the download of %s broke", model)
            self._failed(model, EngineFailed(engine="chainlit-ollama", detail=str(crash) or type(crash).__name__))
        finally:
            self._task = None
            self._look_again.set()

    def _failed(self, model: str, problem: EngineError) -> None:
        """Say so, and try again after a pause that grows with each failure."""
        pause = _RETRY_PAUSES[min(self._failures, len(_RETRY_PAUSES) - 1)]
        self._failures += 1
        self._retry_at = self._clock() + pause
        log.warning("MODELS %s could not be downloaded, next try in %d s: %s", model, pause, problem)
        self._set(replace(self.current, download=None, problem=problem))

    def _set(self, new: DefaultModel) -> None:
        old, self.current = self.current, new
        if new == old:
            return
        known = old.model.id if old.model else None
        if self._load is not None and new.model is not None and new.model.id != known:
            self._load(new.model)
        for listener in self._listeners:
            listener()
