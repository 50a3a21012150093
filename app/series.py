"""The series that Prometheus reads: what replies took, and how the server stands now.

Names and units follow Prometheus' conventions and, where they mean the same, vLLM's own names behind our prefix, so
that a dashboard of one can be read beside that of the other. Labels are bounded: engines and models are those of the
catalog, a name that nobody has is `-`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import accumulate, islice, product
from typing import Final, Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from app.admission import Queue
from app.asker import Source
from app.engines.base import Engine, ModelInfo
from app.engines.catalog import EngineState
from app.errors import ChatError, codes
from app.machine import InUse
from app.metrics import Ended, Outcome
from app.pauses import BOUNDS, Pauses

PREFIX: Final = "chainlit_ollama"

_MODEL: Final = ("engine", "model")
# In seconds, wide enough for a small CPU: a prompt of 4,000 tokens is read in 150 s there.
_WAITS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
_PER_TOKEN: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5)
_TOKENS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_SPEEDS: Final = (0.5, 1, 2, 4, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
_NOBODY: Final = ("-", "-")
# Models whose counters stand at 0 before anybody has asked them: 42 series each, and a server may have hundreds.
_EXPECTED: Final = 16


class ReplySeries(Collector):
    """Counts replies that have ended.

    A counter that first appears as 1 has never grown for Prometheus, and the first failure would not be seen: so what
    may be counted stands at 0 before it is.

    Args:
        registry: what `/metrics` shows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, words: str, labels: Iterable[str] = _MODEL) -> Counter:
            return Counter(f"{PREFIX}_{name}", words, tuple(labels), registry=registry)

        def histogram(name: str, words: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", words, _MODEL, buckets=buckets, registry=registry)

        self._requests = counter(
            "requests", "Replies that were asked for, by how they ended.", ("source", *_MODEL, "outcome")
        )
        self._errors = counter("request_errors", "Replies that failed, by why.", (*_MODEL, "code"))
        self._cuts = counter("context_cuts", "Turns from which on older messages are not read any more.")
        self._prompt = counter("prompt_tokens", "Tokens of the prompts that were sent.")
        self._reply = counter("generation_tokens", "Tokens that were generated.")
        self._queue_time = histogram("request_queue_time_seconds", "Waiting for a slot.", _WAITS)
        self._load_time = histogram("request_load_time_seconds", "Loading the model, where it was not there.", _WAITS)
        self._first = histogram("time_to_first_token_seconds", "From the question to the first text.", _WAITS)
        self._total = histogram("e2e_request_latency_seconds", "From the question to the end of the reply.", _WAITS)
        self._per_token = histogram(
            "request_time_per_output_token_seconds", "Mean time between the tokens of a reply.", _PER_TOKEN
        )
        self._speed = histogram("request_generation_tokens_per_second", "Speed at which replies are written.", _SPEEDS)
        self._prompt_size = histogram("request_prompt_tokens", "Tokens of a prompt.", _TOKENS)
        self._reply_size = histogram("request_generation_tokens", "Tokens of a reply.", _TOKENS)
        self._pauses: dict[tuple[str, str], Pauses] = {}
        self._expected: set[tuple[str, str]] = set()
        self._expect(_NOBODY)
        registry.register(self)

    def expect(self, models: Iterable[ModelInfo]) -> None:
        """These may be asked; of very many the first."""
        for model in islice(models, _EXPECTED):
            self._expect((model.engine, model.name))

    def _expect(self, model: tuple[str, str]) -> None:
        if model in self._expected:
            return
        self._expected.add(model)
        for source, outcome in product(get_args(Source), get_args(Outcome)):
            self._requests.labels(source, *model, outcome)
        for code in codes():
            self._errors.labels(*model, code)
        if model != _NOBODY:
            for counter in (self._cuts, self._prompt, self._reply):
                counter.labels(*model)

    def collect(self) -> Iterable[Metric]:
        """The pauses, which are counted while a reply is written; see `Collector`."""
        family = HistogramMetricFamily(
            f"{PREFIX}_inter_token_latency_seconds", "From one piece of a reply to the next.", labels=_MODEL
        )
        bounds = [*(str(float(bound)) for bound in BOUNDS), "+Inf"]
        for model, pauses in self._pauses.items():
            buckets = list(zip(bounds, accumulate(pauses.counts), strict=True))
            family.add_metric(model, buckets, pauses.seconds)
        yield family

    def add(self, ended: Ended) -> None:
        """Count a reply that has ended."""
        metrics = ended.metrics
        model = (ended.model.engine, ended.model.name) if ended.model is not None else _NOBODY
        self._expect(model)
        self._requests.labels(ended.asker.source, *model, metrics.outcome).inc()
        if metrics.outcome == "failed":
            # Without one it is a mistake of this program.
            self._errors.labels(*model, (ended.error or ChatError).code).inc()
        if ended.cut:
            self._cuts.labels(*model).inc()
        if metrics.queue_seconds > 0:  # who was refused at once has not waited
            self._queue_time.labels(*model).observe(metrics.queue_seconds)
        if metrics.load_seconds > 0:
            self._load_time.labels(*model).observe(metrics.load_seconds)
        if metrics.first_token_seconds is not None:
            self._first.labels(*model).observe(metrics.first_token_seconds)
        elif metrics.outcome != "finished":
            return  # neither read nor written as far as anybody can know
        if ended.pauses is not None:
            self._pauses[model] = self._pauses.get(model, Pauses()) + ended.pauses
        self._prompt.labels(*model).inc(metrics.read_tokens)
        self._prompt_size.labels(*model).observe(metrics.read_tokens)
        self._reply.labels(*model).inc(metrics.reply_tokens)
        self._reply_size.labels(*model).observe(metrics.reply_tokens)
        if metrics.outcome == "finished":
            self._total.labels(*model).observe(metrics.total_seconds)
        if metrics.tokens_per_second is not None:
            self._speed.labels(*model).observe(metrics.tokens_per_second)
            between = metrics.generation_seconds / (metrics.reply_tokens - 1)
            self._per_token.labels(*model).observe(between)


class Serving(Protocol):
    """What is known of the engines without asking anybody; the chat."""

    def queue_of(self, engine: Engine) -> Queue: ...


class ServerSeries(Collector):
    """How the server stands at the moment in which it is asked.

    Args:
        registry: what `/metrics` shows.
        chat: has the queues.
        engines: all that are set up.
        states: of them, as last seen.
        loaded: models in memory, by engine, as last listed.
        open_pages: browsers' pages that are connected.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        chat: Serving,
        engines: Iterable[Engine],
        *,
        states: Callable[[], Iterable[EngineState]],
        loaded: Callable[[], dict[str, int]],
        open_pages: Callable[[], int],
    ) -> None:
        self._chat = chat
        self._engines = tuple(engines)
        self._states = states
        self._loaded = loaded
        self._open_pages = open_pages
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        queues = {engine.name: self._chat.queue_of(engine) for engine in self._engines}
        yield _gauge("num_requests_running", "Replies in an engine's slots.", _each(queues, lambda q: q.serving))
        yield _gauge("num_requests_waiting", "Requests that wait for a slot.", _each(queues, lambda q: q.waiting))
        yield _gauge("slots", "Replies that an engine is given at once.", _each(queues, lambda q: q.slots))
        states = list(self._states())
        up = {state.name: float(state.problem is None and state.age is not None) for state in states}
        yield _gauge("engine_up", "1 if the engine answered when it was last asked, else 0.", up)
        loaded = self._loaded()
        yield _gauge("models_loaded", "Models in memory.", {name: loaded.get(name, 0) for name in queues})
        yield GaugeMetricFamily(f"{PREFIX}_open_pages", "Pages that are open in browsers.", self._open_pages())


def _each(queues: dict[str, Queue], value: Callable[[Queue], int]) -> dict[str, float]:
    return {name: value(queue) for name, queue in queues.items()}


def _gauge(name: str, words: str, values: dict[str, float] | dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", words, labels=["engine"])
    for engine, value in values.items():
        family.add_metric([engine], value)
    return family


class StorageSeries(Collector):
    """How the storage does, looked up when it is asked for.

    Args:
        registry: what `/metrics` shows.
        unsaved: how many writes wait.
        lost: how many were not kept since the start.
        up: whether the database answers and takes writes.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        unsaved: Callable[[], int],
        lost: Callable[[], int],
        up: Callable[[], bool],
    ) -> None:
        self._unsaved = unsaved
        self._lost = lost
        self._up = up
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        yield GaugeMetricFamily(f"{PREFIX}_unsaved_writes", "Writes that wait in memory to be stored.", self._unsaved())
        yield CounterMetricFamily(f"{PREFIX}_lost_writes", "Writes that could not be kept.", self._lost())
        yield GaugeMetricFamily(
            f"{PREFIX}_database_up", "1 if the database answers and takes writes, else 0.", self._up()
        )


class AheadSeries(Collector):
    """What was read ahead since the start.

    Args:
        registry: what `/metrics` shows.
        tokens, seconds: that engines read, and that they took for it.
    """

    def __init__(self, registry: CollectorRegistry, *, tokens: Callable[[], int], seconds: Callable[[], float]) -> None:
        self._tokens = tokens
        self._seconds = seconds
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        yield CounterMetricFamily(
            f"{PREFIX}_read_ahead_tokens", "Tokens read before the message that needs them.", self._tokens()
        )
        yield CounterMetricFamily(
            f"{PREFIX}_read_ahead_seconds", "Seconds that engines spent on that.", self._seconds()
        )


class MachineSeries(Collector):
    """What is left of the machine, looked up when it is asked for. What cannot be told has no series.

    Args:
        registry: what `/metrics` shows.
        memory: what is taken of it, by whose it is: the machine's, and the container's where it is limited.
        disk: free and all bytes of the disk with the data; None: it cannot be told.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        memory: Callable[[], dict[str, InUse]],
        disk: Callable[[], tuple[int, int] | None],
    ) -> None:
        self._memory = memory
        self._disk = disk
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        used = GaugeMetricFamily(f"{PREFIX}_memory_used_bytes", "Memory that is taken.", labels=["scope"])
        size = GaugeMetricFamily(f"{PREFIX}_memory_size_bytes", "Memory that there is.", labels=["scope"])
        for scope, memory in self._memory().items():
            used.add_metric([scope], memory.used)
            size.add_metric([scope], memory.size)
        yield from (used, size)
        disk = self._disk()
        if disk is not None:
            free, total = disk
            yield GaugeMetricFamily(f"{PREFIX}_disk_free_bytes", "Free on the disk with the data.", free)
            yield GaugeMetricFamily(f"{PREFIX}_disk_size_bytes", "Size of the disk with the data.", total)
