"""Which models there are, by which engine, under which names."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from app.engines.base import Engine, ModelInfo
from app.errors import EngineError, UnknownModel

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineState:
    """What is known of an engine.

    Attributes:
        problem: why it does not answer; None: it does.
        models: how many it has, as it last said; 0 while it does not answer.
        age: seconds since it was asked; None: it never was.
        ever_up: whether it has answered since the start.
    """

    name: str
    label: str
    problem: EngineError | None
    models: int
    age: float | None
    ever_up: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """What came of asking an engine, and when."""

    at: float
    models: int
    ever_up: bool


class Catalog:
    """The models of all engines.

    Args:
        engines: asked in this order.
        aliases: more names, each for a model's id or bare name.
        max_age: seconds that a list is kept.
        timeout: seconds that each engine has to answer; one that does not is left out, the others are listed.
        num_ctx: the context length for engines that take one.
        unasked: engines that nobody has asked for: that one of them is not there is nothing to warn of.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        aliases: Mapping[str, str] | None = None,
        max_age: float = 30,
        timeout: float = 5,
        num_ctx: int = 4096,
        unasked: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engines = {engine.name: engine for engine in engines}
        self._aliases = dict(aliases or {})
        self._max_age = max_age
        self._timeout = timeout
        self._num_ctx = num_ctx
        self._unasked = frozenset(unasked)
        self._clock = clock
        self._models: tuple[ModelInfo, ...] = ()
        self._read_at: float | None = None
        self._reading = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._readers: list[Callable[[], None]] = []
        self.problems: dict[str, EngineError] = {}
        self._looks: dict[str, _Look] = {}
        # Which engine had a model, by id and name: one that is away does not list its models.
        self._known_engines: dict[str, str] = {}

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever models have come or gone."""
        self._listeners.append(listener)

    def on_read(self, reader: Callable[[], None]) -> None:
        """Call `reader` whenever the engines were asked, also where they have told nothing new."""
        self._readers.append(reader)

    def expire(self) -> None:
        """What is in memory has changed: ask the engines anew when it is next looked at."""
        self._read_at = None

    @property
    def known(self) -> tuple[ModelInfo, ...]:
        """The models that can chat, as last listed, without asking anybody."""
        return tuple(model for model in self._models if model.can_chat)

    @property
    def listed(self) -> tuple[ModelInfo, ...]:
        """All models, as last listed, without asking anybody."""
        return self._models

    def states(self) -> tuple[EngineState, ...]:
        """What is known of each engine, without asking anybody."""
        return tuple(self._state(engine) for engine in self.engines.values())

    def _state(self, engine: Engine) -> EngineState:
        look, problem = self._looks.get(engine.name), self.problems.get(engine.name)
        if look is None:
            return EngineState(engine.name, engine.label, problem, 0, None, False)
        return EngineState(engine.name, engine.label, problem, look.models, self._clock() - look.at, look.ever_up)

    def aliases(self) -> dict[str, str]:
        """The aliases of models that are there, as last listed, with the id that each stands for."""
        found = {name: self._match(name, self._models) for name in self._aliases}
        return {name: model.id for name, model in found.items() if model is not None}

    async def models(self, *, fresh: bool = False) -> tuple[ModelInfo, ...]:
        """All models that can chat, from the kept list unless it is too old or `fresh` is wanted."""
        await self.everything(fresh=fresh)
        return self.known

    async def everything(self, *, fresh: bool = False) -> tuple[ModelInfo, ...]:
        """As `models`, with those that only embed."""
        asked_at = self._clock()
        async with self._reading:
            age = None if self._read_at is None else self._clock() - self._read_at
            # Somebody else's answer that came while this call waited is fresh enough for anybody.
            newer = self._read_at is not None and self._read_at >= asked_at
            if age is None or age > self._max_age or (fresh and not newer):
                await self._read()
        return self._models

    async def _read(self) -> None:
        lists = await asyncio.gather(*(self._list(engine) for engine in self.engines.values()))
        models = tuple(model for some in lists for model in some)
        for model in models:
            self._known_engines[model.id] = self._known_engines[model.name] = model.engine
        changed = {model.id for model in models} != {model.id for model in self._models}
        self._models = models
        self._read_at = self._clock()
        for listener in [*self._readers, *(self._listeners if changed else [])]:
            listener()

    async def _list(self, engine: Engine) -> Sequence[ModelInfo]:
        try:
            async with asyncio.timeout(self._timeout):
                models = await engine.models()
        except (EngineError, TimeoutError) as problem:
            failure = (
                problem
                if isinstance(problem, EngineError)
                else EngineError(engine=engine.label, detail=f"no list of models within {self._timeout:g} s")
            )
            if engine.name not in self.problems:
                if engine.name in self._unasked and not self._state(engine).ever_up:
                    log.info("MODELS %s is not there, nor was it asked for", engine.label)
                else:
                    log.warning("MODELS %s", failure)
            self.problems[engine.name] = failure
            self._note(engine, None)
            return ()
        if self.problems.pop(engine.name, None):
            log.info("MODELS %s answers again", engine.label)
        self._note(engine, len(models))
        return models

    def _note(self, engine: Engine, models: int | None) -> None:
        """An engine was asked; `models`: how many it has, None: it did not answer."""
        before = self._looks.get(engine.name)
        ever_up = models is not None or (before is not None and before.ever_up)
        self._looks[engine.name] = _Look(self._clock(), models or 0, ever_up)

    async def find(self, name: str) -> ModelInfo:
        """The model of that name: its id, its bare name where only one engine has it, or an alias.

        A name that is not on the kept list is looked for on a fresh one, at most once.

        Raises:
            EngineError: the engine that has it does not answer.
            UnknownModel: there is none.
        """
        found = self._match(name, await self.everything())
        if found is None:
            found = self._match(name, await self.everything(fresh=True))
        if found is None:
            engine = self._known_engines.get(self._aliases.get(name, name))
            if engine in self.problems:
                raise self.problems[engine]
            known = ", ".join(f"`{model.id}`" for model in self._models) or "-"
            raise UnknownModel(model=name, known=known)
        return found

    def _match(self, name: str, models: Sequence[ModelInfo]) -> ModelInfo | None:
        wanted = self._aliases.get(name, name)
        by_id = {model.id: model for model in models}
        if wanted in by_id:
            return by_id[wanted]
        # Ollama's rule: a name without a tag means the tag `latest`.
        bare = [model for model in models if model.name in (wanted, f"{wanted}:latest")]
        if len(bare) == 1:
            return bare[0]
        return None if bare else self._by_family(wanted, models)

    def _by_family(self, name: str, models: Sequence[ModelInfo]) -> ModelInfo | None:
        """`ollama`: the engine's first model; `phi3_ollama`, `qwen_vllm`: its first whose name begins so."""
        family, _, engine = name.rpartition("_")
        if engine not in self.engines:
            return None
        return next(
            (
                model
                for model in models
                if model.engine == engine
                and model.can_chat
                and model.name.rpartition("/")[2].lower().startswith(family.lower())
            ),
            None,
        )

    def engine_of(self, model: ModelInfo) -> Engine:
        """The engine that runs a model."""
        return self.engines[model.engine]

    def context_length(self, model: ModelInfo) -> int:
        """Tokens of prompt and reply together that a model is given here, the same for every request."""
        if model.context_length is None:
            return self._num_ctx
        return model.context_length if model.context_fixed else min(self._num_ctx, model.context_length)
