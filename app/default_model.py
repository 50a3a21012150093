"""Which model answers a visitor who has picked none: found out, never asked.

MODEL, if set, skips the search. Otherwise the first of these that is there:

1. the first model of VLLM_URL, if set;
2. the first of MODELS that Ollama has, or its first; it is told to pull those that it lacks;
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
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from app.engines.base import ModelInfo, Progress
from app.engines.catalog import Catalog
from app.engines.ollama_protocol import full_name
from app.errors import ChatError, EngineError, EngineFailed, UnknownModel
from app.progress import DownloadBar

log = logging.getLogger(__name__)

GUIDE: Final = "guide"
OLLAMA, VLLM, TRANSFORMERS = "ollama", "vllm", "transformers"

# Engines whose models are on a server of theirs.
_SERVERS: Final = (OLLAMA, VLLM)

Reason = Literal["set", "vllm", "ollama", "qwen", "guide", "nothing"]

# A download or a load that failed is tried again after pauses that grow up to the last of these, in seconds.
_RETRY_PAUSES: Final = (15, 60, 300, 900)
# While something better may come, the engines are looked at this often, in seconds.
_POLL: Final = 5.0
# An Ollama is on this machine, as a rule: it is cheap to ask, and its end should be seen before it is back.
_POLL_OLLAMA: Final = 2.0
# While there is no model at all: an Ollama that is started together with this server needs a moment.
_POLL_NOTHING: Final = 1.0

# Brings the model of that name to where an engine runs it.
Puller = Callable[[str], AsyncGenerator[Progress, None]]
# Brings a model into memory.
Loader = Callable[[ModelInfo], Awaitable[None]]


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
        loading, loaded: whether `model` is being brought into memory, whether it was.
        unfit: why it could not be.
    """

    model: ModelInfo | None = None
    reason: Reason = "nothing"
    wanted: str = ""
    away: EngineError | None = None
    ollama_up: bool = False
    download: Download | None = None
    problem: ChatError | None = None
    loading: bool = False
    loaded: bool = False
    unfit: ChatError | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the settings say about the search.

    Attributes:
        model: MODEL; empty: search.
        ollama_models: the first is preferred, and pulled if Ollama has none.
        pulled: Ollama models that have to be there in any case.
        ollama_wait: seconds that Ollama has to answer, after the start, before another model is chosen.
        keeps: whether Ollama is to keep the default model in memory for ever.
        qwen_models: models for transformers; the first is downloaded.
        ollama_url, vllm_url: where they are looked for.
        local: whether the packages that run models here are installed.
        checkpoint: whether `model` is the one of CHECKPOINT.
    """

    model: str
    ollama_models: Sequence[str]
    qwen_models: Sequence[str]
    ollama_url: str = ""
    vllm_url: str = ""
    local: bool = True
    pulled: Sequence[str] = ()
    ollama_wait: float = 0.0
    keeps: bool = True
    checkpoint: bool = False


class Retries:
    """When what failed may be tried again: after pauses that grow with each failure.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: Counter[str] = Counter()
        self._next: dict[str, float] = {}

    def due(self, name: str) -> bool:
        """Whether it may be tried now."""
        return self._clock() >= self._next.get(name, 0.0)

    def failed(self, name: str) -> int:
        """Note a failure. Returns the pause before the next try, in seconds."""
        pause = _RETRY_PAUSES[min(self._failures[name], len(_RETRY_PAUSES) - 1)]
        self._failures[name] += 1
        self._next[name] = self._clock() + pause
        return pause

    def worked(self, name: str) -> None:
        """Forget the failures."""
        self._failures.pop(name, None)
        self._next.pop(name, None)


def runs_here(name: str) -> bool:
    """Whether only transformers can have a model of that name: the guide, or one of the hub (organization/name)."""
    engine, _, rest = name.partition("/")
    return name == GUIDE or (bool(rest) and engine not in _SERVERS)


class DefaultModelFinder:
    """Keeps `current` up to date.

    Args:
        wishes: what the settings say.
        catalog: which models there are.
        pull: tells Ollama to pull a model.
        download: downloads a model for transformers; None where its packages are not installed.
        load: brings each new default model into memory, before anybody waits for it; None: on first use.
        settled_poll: seconds between looks at the engines when the best choice is made.
    """

    def __init__(
        self,
        wishes: Wishes,
        catalog: Catalog,
        *,
        pull: Puller,
        download: Puller | None,
        load: Loader | None = None,
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
        self._loading: asyncio.Task[None] | None = None
        self._downloads = Retries(clock)
        self._loads = Retries(clock)
        self._looked_at: float | None = None
        self._started = clock()
        self._retried = False
        self._looking = asyncio.Lock()
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
                settled = settled and not self._retried
                self._look_again.clear()
                pause = self._settled_poll if settled else _POLL if now.model else _POLL_NOTHING
                if now.model is not None and now.model.engine == OLLAMA:
                    pause = min(pause, _POLL_OLLAMA)
                try:
                    async with asyncio.timeout(pause):
                        await self._look_again.wait()
                except TimeoutError:
                    continue
        finally:
            for task in (self._task, self._loading):
                if task is not None:
                    task.cancel()

    @property
    def ready(self) -> bool:
        """Whether the default model answers at once: its engine is there, and it is in memory, or was until a visitor
        chose another one."""
        now = self.current
        return now.model is not None and now.away is None and (self._load is None or now.loaded)

    @property
    def age(self) -> float | None:
        """Seconds since the last look; None: there was none."""
        return None if self._looked_at is None else self._clock() - self._looked_at

    async def look_if_older(self, seconds: float) -> None:
        """Look again unless that was done within the last `seconds`."""
        async with self._looking:
            if self._looked_at is None or self._clock() - self._looked_at > seconds:
                await self.look()

    async def look(self) -> None:
        """Look at the engines once, choose, and start what has to be downloaded or loaded."""
        everything = await self._catalog.everything(fresh=True)
        models = self._catalog.known
        self._looked_at = self._clock()
        ollama_up = OLLAMA in self._catalog.engines and OLLAMA not in self._catalog.problems
        choice = await self._choice(models)
        wanted: list[tuple[str, Puller]] = []
        if self._awaits_ollama(choice):
            choice = DefaultModel()
        else:
            wanted = self._missing(everything, choice, ollama_up)
        kept = self.current if _same(choice, self.current) else DefaultModel()
        if kept.loaded and self._is_gone(choice, everything):
            kept = DefaultModel()
        new = replace(
            choice,
            ollama_up=ollama_up,
            download=self.current.download,
            problem=self.current.problem,
            loading=kept.loading,
            loaded=kept.loaded and not choice.away,
            unfit=kept.unfit,
        )
        load = self._load_due(new)
        self._set(replace(new, loading=new.loading or load is not None))
        if load is not None:
            self._loading = asyncio.create_task(load)
        due = next((pull for pull in wanted if self._downloads.due(pull[0])), None)
        if due and self._task is None:
            self._task = asyncio.create_task(self._bring(*due))

    async def choice(self) -> DefaultModel:
        """What would be chosen now; nothing is started, and `current` stays."""
        return await self._choice(await self._catalog.models(fresh=True))

    async def _choice(self, models: Sequence[ModelInfo]) -> DefaultModel:
        return self._kept() or (await self._named() if self.wishes.model else self._search(models))

    def _awaits_ollama(self, choice: DefaultModel) -> bool:
        """Whether an Ollama that was started together with this server may still come up."""
        if choice.reason in ("set", "vllm", "ollama") or OLLAMA not in self._catalog.problems:
            return False
        return self._clock() - self._started < self.wishes.ollama_wait

    def _is_gone(self, choice: DefaultModel, models: Sequence[ModelInfo]) -> bool:
        """Whether the default model is no longer in memory, nor another in its place: its Ollama was started anew."""
        engine = choice.model.engine if choice.model else ""
        return engine == OLLAMA and self.wishes.keeps and all(m.loaded is False for m in models if m.engine == engine)

    def _kept(self) -> DefaultModel | None:
        """The choice made before, while the server that runs it does not answer."""
        model = self.current.model
        problem = self._catalog.problems.get(model.engine) if model and model.engine in _SERVERS else None
        return replace(self.current, away=problem) if problem else None

    async def _named(self) -> DefaultModel:
        try:
            model = await self._catalog.find(self.wishes.model)
            if model.can_chat:
                return DefaultModel(model, "set")
        except (UnknownModel, EngineError):  # it is nowhere, or its engine is away
            pass
        return replace(self._search(self._catalog.known), wanted=self.wishes.model)

    def _search(self, models: Sequence[ModelInfo]) -> DefaultModel:
        by_engine: dict[str, list[ModelInfo]] = {}
        for model in models:
            by_engine.setdefault(model.engine, []).append(model)
        if VLLM in by_engine:
            return DefaultModel(by_engine[VLLM][0], "vllm")
        if OLLAMA in by_engine:
            offered = by_engine[OLLAMA]
            named = {model.name: model for model in offered}
            preferred = (named[full_name(name)] for name in self.wishes.ollama_models if full_name(name) in named)
            return DefaultModel(next(preferred, offered[0]), "ollama")
        local = by_engine.get(TRANSFORMERS, [])
        for model in local:
            if model.name != GUIDE:
                return DefaultModel(model, "qwen")
        return DefaultModel(local[0], "guide") if local else DefaultModel()

    def _missing(self, models: Sequence[ModelInfo], choice: DefaultModel, ollama_up: bool) -> list[tuple[str, Puller]]:
        """What should be brought, and by whom, the most wanted first. `models`: all, those that only embed too."""
        if choice.away is not None:
            return []
        wanted: list[tuple[str, Puller]] = []
        there = {model.name for model in models if model.engine == OLLAMA}
        if choice.wanted:
            engine, _, name = choice.wanted.partition("/")
            hub_name = choice.wanted.removeprefix(f"{TRANSFORMERS}/")
            ollama_name = choice.wanted.removeprefix(f"{OLLAMA}/")
            if ollama_up and (engine == OLLAMA or not name):
                if full_name(ollama_name) not in there:  # else it is one that cannot chat
                    wanted.append((ollama_name, self._pull))
            elif self._download and "/" in hub_name and engine not in _SERVERS:
                wanted.append((hub_name, self._download))
        elif choice.reason in ("guide", "qwen", "nothing"):
            if ollama_up:
                # One that is there and still not chosen cannot chat.
                wanted += [(name, self._pull) for name in self.wishes.ollama_models if full_name(name) not in there][:1]
            elif choice.reason != "qwen" and self._download and self.wishes.qwen_models:
                wanted.append((self.wishes.qwen_models[0], self._download))
        if ollama_up:
            lacking = [name for name in self.wishes.pulled if full_name(name) not in there]
            wanted += [(name, self._pull) for name in lacking if name not in [model for model, _ in wanted]]
        self._retried = len(wanted) > 0
        return wanted

    def _load_due(self, new: DefaultModel) -> Coroutine[Any, Any, None] | None:
        """What brings the default model into memory, unless it is there, on its way, or has just failed to."""
        if self._load is None or new.model is None or new.away or new.loaded or self._loading is not None:
            return None
        return self._bring_into_memory(new.model, self._load) if self._loads.due(new.model.id) else None

    async def _bring_into_memory(self, model: ModelInfo, load: Loader) -> None:
        problem: ChatError | None = None
        try:
            await load(model)
            log.info("MODELS %s is loaded", model.id)
            self._loads.worked(model.id)
        except ChatError as failure:
            problem = failure
            pause = self._loads.failed(model.id)
            log.warning("MODELS %s could not be loaded, next try in %d s: %s", model.id, pause, failure)
        except Exception as crash:
            problem = EngineFailed(engine="chainlit-ollama", detail=str(crash) or type(crash).__name__)
            self._loads.failed(model.id)
            log.exception("MODELS the loading of %s broke", model.id)
        finally:
            self._loading = None
        if self.current.model is not None and self.current.model.id == model.id and not self.current.away:
            self._set(replace(self.current, loading=False, loaded=problem is None, unfit=problem))
        self._look_again.set()

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
            self._downloads.failed(model)  # only asked if it is still missing at the next look: not again at once
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
        pause = self._downloads.failed(model)
        log.warning("MODELS %s could not be downloaded, next try in %d s: %s", model, pause, problem)
        self._set(replace(self.current, download=None, problem=problem))

    def _set(self, new: DefaultModel) -> None:
        old, self.current = self.current, new
        if new != old:
            for listener in self._listeners:
                listener()


def _same(one: DefaultModel, other: DefaultModel) -> bool:
    """Whether both are the same model on a server that was there all the time."""
    if one.model is None or other.model is None or one.model.id != other.model.id:
        return False
    return (one.away is None) == (other.away is None)
