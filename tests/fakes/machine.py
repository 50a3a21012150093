"""The computer under a fake Ollama: one slot a model, loading, reading by batches with its caches, writing."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tests.fakes.answers import DIED_LOADING, OUT_OF_MEMORY, go_time
from tests.fakes.caches import CACHE_TOKENS, Caches
from tests.fakes.exchange import Refused
from tests.fakes.models import FakeModel
from tests.fakes.requests import ChatRequest, RunnerOptions
from tests.fakes.words import Fault, prompt_of

_FOR_EVER: Final = "2319-03-03T03:15:59.598823381Z"
_KEEP_ALIVE: Final = 300.0  # seconds, Ollama's default
_LOADED_ALREADY: Final = 0.0015  # seconds that a request to a loaded model calls loading, as recorded: 1 to 14 ms


class Pace:
    """Lets modelled time pass for one request: by its deadline, so that late wake-ups do not add up.

    Args:
        machine: whose speedup counts.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._due = asyncio.get_running_loop().time()

    async def spend(self, seconds: float) -> None:
        self._due += seconds / self._machine.speedup
        await asyncio.sleep(max(0.0, self._due - asyncio.get_running_loop().time()))


@dataclass(slots=True)
class Runner:
    """A loaded model.

    Attributes:
        model, options: what was loaded, and how.
        caches: the tokens that its slot and its prompt cache hold.
        alive: whether its process runs. Ollama goes on listing one that does not.
        keep_alive: seconds that it stays after its last use.
        used_at: when that was, by the clock of the day.
    """

    model: FakeModel
    options: RunnerOptions
    caches: Caches
    alive: bool = True
    keep_alive: float = _KEEP_ALIVE
    used_at: float = field(default_factory=time.time)

    @property
    def expires_at(self) -> float:
        return self.used_at + self.keep_alive

    def listed(self) -> dict[str, Any]:
        """Its entry in /api/ps."""
        at = self.expires_at
        until = go_time(datetime.fromtimestamp(at, UTC)) if math.isfinite(at) else _FOR_EVER
        return self.model.loaded(self.options.num_ctx, until)


@dataclass(slots=True)
class Slot:
    """A model's place to work: one request at a time, the others in the order in which they came."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Machine:
    """Models in memory and the time that work with them takes.

    Args:
        prompt_speed, speed: tokens read and written per second.
        load_seconds: time to load a model.
        speedup: how much faster than that the clock runs, infinite to wait for nothing; what is reported stays as at
            true speed.
        cache_tokens, cache_reuse: see Caches; for models that are loaded from then on.

    Attributes:
        busy: slots at work. waiting: requests behind them. idle: set while there are neither.
        loads, cancelled, tokens_read: models loaded, requests ended because their client left, and tokens read, since
            the start.
        served: of each request with messages that had the slot, its last message and the seconds at true speed that it
            took there.
    """

    def __init__(
        self,
        *,
        prompt_speed: float,
        speed: float,
        load_seconds: float,
        speedup: float,
        cache_tokens: int = CACHE_TOKENS,
        cache_reuse: int = 0,
    ) -> None:
        self.prompt_speed = prompt_speed
        self.speed = speed
        self.load_seconds = load_seconds
        self.speedup = speedup
        self.cache_tokens = cache_tokens
        self.cache_reuse = cache_reuse
        self.busy = 0
        self.waiting = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.loads = 0
        self.cancelled = 0
        self.tokens_read = 0
        self.served: list[dict[str, Any]] = []
        self._runners: dict[str, Runner] = {}
        self._slots: defaultdict[str, Slot] = defaultdict(Slot)

    def loaded(self) -> list[Runner]:
        """The models in memory. One that was not used for its keep_alive is unloaded, as soon as anyone looks."""
        for name, runner in list(self._runners.items()):
            if not self._slots[name].users and runner.expires_at <= time.time():
                del self._runners[name]
        return list(self._runners.values())

    def unload(self, name: str | None = None) -> None:
        """Take a model, or all, out of memory; a running reply is finished first."""
        for key in list(self._runners) if name is None else [name]:
            if runner := self._runners.get(key):
                runner.keep_alive = 0
        self.loaded()

    @asynccontextmanager
    async def slot(self, name: str) -> AsyncIterator[float]:
        """The model's slot, when its turn has come. Yields the seconds that it took, at true speed."""
        slot = self._slots[name]
        came = time.monotonic()
        slot.users += 1
        self.waiting += 1
        self.idle.clear()
        try:
            try:
                await slot.lock.acquire()
            finally:
                self.waiting -= 1
            self.busy += 1
            try:
                yield (time.monotonic() - came) * self.speedup if math.isfinite(self.speedup) else 0.0
            finally:
                self.busy -= 1
                slot.lock.release()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            slot.users -= 1
            if runner := self._runners.get(name):
                runner.used_at = time.time()
            self.loaded()
            if not self.busy and not self.waiting:
                self.idle.set()

    async def load(self, asked: ChatRequest, fault: Fault | None, pace: Pace) -> tuple[Runner, float]:
        """The model in memory as the request wants it, and the seconds that it took.

        A client that leaves ends the loading (by Ollama's source).

        Raises:
            Refused: it cannot be loaded.
        """
        self.loaded()
        name, seconds = asked.model.name, _LOADED_ALREADY
        runner = self._runners.get(name)
        if runner is None or not runner.alive or runner.options != asked.runner:
            self._runners.pop(name, None)
            if fault is Fault.OOM:
                raise Refused(500, OUT_OF_MEMORY)
            await pace.spend(self.load_seconds)
            if fault is Fault.DIE_LOADING:
                raise Refused(500, DIED_LOADING)
            self.loads += 1
            seconds = self.load_seconds
            caches = Caches(self.cache_tokens, self.cache_reuse)
            runner = self._runners[name] = Runner(asked.model, asked.runner, caches)
        if asked.keep_alive is not None:
            runner.keep_alive = asked.keep_alive
        return runner, seconds

    async def read(self, runner: Runner, prompt: Sequence[str], pace: Pace, *, delay: bool = True) -> float:
        """Read what is not held yet, batch by batch; at least one token. Returns the seconds.

        A reading that is cancelled goes on to the end of its batch and keeps nothing of what it read, as measured; that
        it keeps what was known before is taken from the measured 0.6 s after a cancelled reading ahead.
        """
        known = runner.caches.take(prompt)
        new = max(len(prompt) - known, 1)
        for begin in range(0, new, runner.options.num_batch):
            size = min(runner.options.num_batch, new - begin)
            await _to_its_end(self._batch(size, pace, size / self.prompt_speed if delay else 0))
        runner.caches.slot = list(prompt)
        return new / self.prompt_speed

    async def _batch(self, size: int, pace: Pace, seconds: float) -> None:
        await pace.spend(seconds)
        self.tokens_read += size


async def _to_its_end(batch: Coroutine[Any, Any, None]) -> None:
    """Wait for the batch to its end, also when cancelled."""
    task = asyncio.create_task(batch)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def fitting(messages: Sequence[Mapping[str, Any]], context: int) -> list[str]:
    """The prompt that Ollama makes without `truncate: false`.

    Its oldest messages but the system's are dropped one by one until it fits; a last message that is too long by
    itself is cut in its middle, to about half of the context.
    """
    kept = list(messages)
    prompt = prompt_of(kept)
    while len(prompt) >= context:
        old = next((n for n, message in enumerate(kept[:-1]) if message.get("role") != "system"), None)
        if old is None:
            quarter = context // 4
            return [*prompt[:quarter], *prompt[-quarter:]]
        del kept[old]
        prompt = prompt_of(kept)
    return prompt
