"""The series that replies and the server's state become."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.asker import Asker
from app.chat import Chat
from app.disk import Disk
from app.engines.base import CompletionRequest, Delta, EngineEvent, GenerationOptions, ModelInfo
from app.engines.catalog import Catalog
from app.errors import ChatError, EngineFailed
from app.history import SessionHistory, StoredMessage
from app.machine import InUse
from app.metrics import ReplyMetrics
from app.pauses import BOUNDS, Pauses
from app.prompting import ReplyOptions
from app.series import MachineSeries, ReplySeries, ServerSeries
from app.turn import Ended
from tests.fakes.engine import ScriptedEngine

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(registry: CollectorRegistry) -> Samples:
    """By name and labels, those of buckets left out."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name.removeprefix("chainlit_ollama_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


MODEL = (("engine", "ollama"), ("model", "gemma2:2b"))


def measured(*engines: ScriptedEngine, num_ctx: int = 4096, max_waiting: int = 16) -> tuple[Chat, CollectorRegistry]:
    registry = CollectorRegistry()
    chat = Chat(Catalog(engines, num_ctx=num_ctx), max_waiting=max_waiting, on_end=ReplySeries(registry).add)
    return chat, registry


async def ask(chat: Chat, history: SessionHistory, text: str = "one two", model: str = "gemma2:2b") -> None:
    number = len(history)
    options = ReplyOptions(model, generation=GenerationOptions(max_tokens=100))
    turn = chat.turn(history, StoredMessage(f"q{number}", text), f"a{number}", options, asker=Asker("v1"))
    with suppress(ChatError):
        async for _ in turn.events():
            pass


async def test_a_reply_is_counted_with_its_tokens_and_times() -> None:
    chat, registry = measured(ScriptedEngine("a b c d"))
    await ask(chat, SessionHistory("c"))
    found = samples(registry)
    assert found["requests_total", (*MODEL, ("outcome", "finished"), ("source", "v1"))] == 1
    assert found["prompt_tokens_total", MODEL] == 7
    assert found["generation_tokens_total", MODEL] == 4
    assert found["request_generation_tokens_sum", MODEL] == 4
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds"):
        assert found[f"{name}_count", MODEL] == 1
    # The engine said 0.4 s for four tokens: three pauses lie between them.
    assert round(found["request_time_per_output_token_seconds_sum", MODEL], 3) == 0.133
    assert found["request_generation_tokens_per_second_sum", MODEL] == 10


async def test_every_pause_between_two_pieces_is_counted_by_its_length() -> None:
    now = 0.0
    registry = CollectorRegistry()
    chat = Chat(Catalog([ScriptedEngine("a b c d", "e f")]), on_end=ReplySeries(registry).add, clock=lambda: now)
    history, pauses = SessionHistory("c"), iter([0.03, 0.04, 100.0, 0.1])
    for number in range(2):
        turn = chat.turn(history, StoredMessage(f"q{number}", "one"), f"a{number}", ReplyOptions("gemma2:2b"))
        async for event in turn.events():
            if isinstance(event, Delta):
                now += next(pauses, 0.0) if event.text.strip() not in ("d", "f") else 7.0  # after the last is no pause
    text = generate_latest(registry).decode()
    found = {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "chainlit_ollama_inter_token_latency_seconds_bucket"
    }
    assert [found[bound] for bound in ("0.025", "0.05", "0.075", "0.1", "80.0", "+Inf")] == [0, 2, 2, 3, 3, 4]
    assert round(samples(registry)["inter_token_latency_seconds_sum", MODEL], 6) == 100.17


def test_a_pause_as_long_as_a_bound_is_within_it() -> None:
    pauses = Pauses()
    for bound in (*BOUNDS, BOUNDS[-1] + 1):
        pauses.add(bound)
    assert pauses.counts == [1] * (len(BOUNDS) + 1)


async def test_what_may_be_counted_stands_at_0_before_it_is() -> None:
    """Or Prometheus would not see the first failure: a series that begins with 1 has never grown."""
    registry = CollectorRegistry()
    series = ReplySeries(registry)
    catalog = Catalog([ScriptedEngine()])
    catalog.on_read(lambda: series.expect(catalog.known))
    nobody = (("engine", "-"), ("model", "-"))
    assert samples(registry)["request_errors_total", (("code", "engine_unreachable"), *nobody)] == 0
    await catalog.models()
    found = samples(registry)
    for code in ("out_of_memory", "engine_failed", "error", "queue_full"):
        assert found["request_errors_total", (("code", code), *MODEL)] == 0
    for source in ("page", "api", "v1"):
        assert found["requests_total", (*MODEL, ("outcome", "failed"), ("source", source))] == 0
    assert found["context_cuts_total", MODEL] == 0


async def test_a_server_with_hundreds_of_models_has_no_thousands_of_series() -> None:
    registry = CollectorRegistry()
    series = ReplySeries(registry)
    for _ in range(3):
        series.expect(ModelInfo("ollama", f"model-{number}") for number in range(300))
    assert len(samples(registry)) < 1000
    chat = Chat(Catalog([ScriptedEngine(models=["model-299"])]), on_end=series.add)
    await ask(chat, SessionHistory("c"), model="model-299")
    asked = (("engine", "ollama"), ("model", "model-299"))
    assert samples(registry)["request_errors_total", (("code", "engine_failed"), *asked)] == 0


async def test_what_failed_is_counted_by_why_and_has_no_latency() -> None:
    chat, registry = measured(ScriptedEngine(EngineFailed(engine="Ollama", detail="broke")))
    await ask(chat, SessionHistory("c"))
    found = samples(registry)
    assert found["requests_total", (*MODEL, ("outcome", "failed"), ("source", "v1"))] == 1
    assert found["request_errors_total", (("code", "engine_failed"), *MODEL)] == 1
    assert ("e2e_request_latency_seconds_count", MODEL) not in found
    assert ("inter_token_latency_seconds_count", MODEL) not in found
    assert ("time_to_first_token_seconds_count", MODEL) not in found


async def test_who_was_refused_at_once_has_not_waited() -> None:
    engine = ScriptedEngine("first")
    engine.go_on.clear()
    chat, registry = measured(engine, max_waiting=0)
    first = asyncio.create_task(ask(chat, SessionHistory("a")))
    while not engine.requests:
        await asyncio.sleep(0)
    await ask(chat, SessionHistory("b"))
    found = samples(registry)
    assert found["request_errors_total", (("code", "queue_full"), *MODEL)] == 1
    assert ("request_queue_time_seconds_count", MODEL) not in found
    engine.go_on.set()
    await first
    assert samples(registry)["request_queue_time_seconds_count", MODEL] == 1


async def test_a_mistake_of_our_own_is_an_error_too() -> None:
    class Broken(ScriptedEngine):
        async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
            raise ZeroDivisionError
            yield

    chat, registry = measured(Broken())
    with pytest.raises(ZeroDivisionError):
        await ask(chat, SessionHistory("c"))
    assert samples(registry)["request_errors_total", (("code", "error"), *MODEL)] == 1


def test_a_reply_that_came_all_at_once_has_its_tokens_and_no_first_one() -> None:
    registry = CollectorRegistry()
    metrics = ReplyMetrics("finished", 3.0, 1.0, None, 0.0, 0.5, 1.5, 30, 0, 4, False, 20, 34, 4096)
    ReplySeries(registry).add(Ended(Asker("api"), ModelInfo("ollama", "gemma2:2b"), "q", "a", metrics))
    found = samples(registry)
    assert (found["prompt_tokens_total", MODEL], found["generation_tokens_total", MODEL]) == (30, 4)
    assert found["e2e_request_latency_seconds_sum", MODEL] == 3
    assert ("time_to_first_token_seconds_count", MODEL) not in found


async def test_a_name_that_nobody_has_makes_no_series_of_its_own() -> None:
    chat, registry = measured(ScriptedEngine())
    for name in ("secret-one", "secret-two"):
        await ask(chat, SessionHistory("c"), model=name)
    nobody = (("engine", "-"), ("model", "-"), ("outcome", "failed"), ("source", "v1"))
    assert samples(registry)["requests_total", nobody] == 2
    assert "secret" not in generate_latest(registry).decode()


async def test_cuts_of_the_window_are_counted_once_each() -> None:
    chat, registry = measured(ScriptedEngine(*["word " * 40] * 20, context=512), num_ctx=512)
    history, cuts, first = SessionHistory("c"), 0, 0
    for _ in range(15):
        await ask(chat, history, "word " * 30)
        cuts += history.seen_left_out > first
        first = history.seen_left_out
    assert cuts > 1
    assert samples(registry)["context_cuts_total", MODEL] == cuts


async def test_the_server_tells_of_its_queues_engines_and_pages() -> None:
    engine, away = ScriptedEngine(), ScriptedEngine(name="vllm")
    away.problem = EngineFailed(engine="vLLM", detail="away")
    engine.in_memory = {"gemma2:2b"}
    chat, registry = measured(engine, away)
    catalog = chat.catalog
    ServerSeries(
        registry,
        chat,
        (engine, away),
        states=catalog.states,
        loaded=lambda: {"ollama": sum(bool(model.loaded) for model in catalog.listed)},
        open_pages=lambda: 3,
    )
    ollama, vllm = (("engine", "ollama"),), (("engine", "vllm"),)
    assert samples(registry)["engine_up", ollama] == 0  # nobody has asked it yet
    await catalog.models()
    queue = chat.queue_of(engine)
    first, _ = queue.join("ann"), queue.join("bob")
    found = samples(registry)
    assert (found["engine_up", ollama], found["engine_up", vllm]) == (1, 0)
    assert (found["num_requests_running", ollama], found["num_requests_waiting", ollama]) == (1, 1)
    assert (found["num_requests_running", vllm], found["slots", ollama]) == (0, 1)
    assert (found["models_loaded", ollama], found["models_loaded", vllm]) == (1, 0)
    assert found["open_pages", ()] == 3
    first.leave()
    assert samples(registry)["num_requests_waiting", ollama] == 0


def test_the_machine_tells_of_its_memory_and_disk() -> None:
    registry = CollectorRegistry()
    memory = {"machine": InUse(3, 4), "container": InUse(1, 2)}
    MachineSeries(registry, memory=lambda: memory, disk=lambda: (5, 6))
    found = samples(registry)
    assert found["memory_used_bytes", (("scope", "container"),)] == 1
    assert found["memory_size_bytes", (("scope", "machine"),)] == 4
    assert (found["disk_free_bytes", ()], found["disk_size_bytes", ()]) == (5, 6)


def test_a_disk_that_hangs_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, answers = Disk(tmp_path), Event()

    def hangs(_: Path) -> Usage:
        answers.wait()
        return Usage(7, 4, 3)

    told = disk()
    assert told is not None
    assert told[1] == shutil.disk_usage(tmp_path).total
    monkeypatch.setattr(shutil, "disk_usage", hangs)
    assert disk() is None
    assert disk() is None
    answers.set()
    while disk() is None:
        pass
    assert disk() == (3, 7)
    monkeypatch.undo()
    assert Disk(tmp_path / "not there")() is None


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_what_the_machine_does_not_tell_has_no_series() -> None:
    registry = CollectorRegistry()
    MachineSeries(registry, memory=dict, disk=lambda: None)
    assert samples(registry) == {}
