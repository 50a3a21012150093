"""Storms of cancels, in every phase of a reply: afterwards nothing works any more, and nothing is left."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from app.api.debug import running
from app.api.relay import Relay
from app.chat import Chat
from app.engines.base import Delta, Engine, GenerationOptions, Loading, Reading
from app.engines.catalog import Catalog
from app.engines.local import GUIDE, LocalEngine
from app.engines.ollama import OllamaEngine
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.errors import ChatError
from app.history import SessionHistory, StoredMessage
from app.prompting import ReplyOptions
from app.settings import GUIDE_DIR
from app.turn import ChatTurn, Event, Waiting
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai_server import Answer, FakeOpenAI
from tests.servers import guide_as_gguf, llama_server
from tests.site import fake_ollama, quick_pings, server
from tests.storms import Storm

PHASES: tuple[type[Event] | None, ...] = (None, Waiting, Loading, Reading, Delta)
AT_ONCE = 6
QUESTIONS = ("!words 60", "How do I start it?", "word " * 300)


async def broken_off(chat: Chat, model: str, seed: int) -> None:
    """A reply that is cancelled some time after it came to some phase, as the page or as an API does it."""
    chance = random.Random(seed)
    phase, more = chance.choice(PHASES), chance.choice((0.0, 0.0, chance.uniform(0, 0.05)))
    options = ReplyOptions(model, generation=GenerationOptions(max_tokens=200))
    turn = chat.turn(SessionHistory(f"c{seed % 7}"), StoredMessage("q", chance.choice(QUESTIONS)), "a", options)
    reached = asyncio.Event()

    async def read(turn: ChatTurn) -> None:
        with suppress(ChatError):
            async for event in turn.events():
                if phase is not None and isinstance(event, phase):
                    reached.set()

    if chance.random() < 0.5:
        work = asyncio.create_task(read(turn))
        ends: Callable[[], object] = work.cancel
    else:
        relay = Relay(turn)
        work = relay.start()
        ends = relay.leave
    if phase is not None and chance.random() < 0.9:
        waiting = asyncio.create_task(reached.wait())
        await asyncio.wait({work, waiting}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    await asyncio.sleep(more)
    ends()
    await asyncio.wait({work})


async def storm(chat: Chat, model: str, number: int, seed: int) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(n: int) -> None:
        async with gate:
            await broken_off(chat, model, n)

    await asyncio.gather(*(one(seed + n) for n in range(number)))


@asynccontextmanager
async def nothing_left(chat: Chat, idle: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Within it, a storm; after it the engine is idle within 2 s, all slots are free and there are the same tasks."""
    before = running()
    yield
    async with asyncio.timeout(2):
        await idle()
    assert (chat.serving, chat.waiting) == (0, 0)
    await asyncio.sleep(0.05)  # what was cancelled a moment ago
    assert running() - before == Counter()


async def test_ollama_is_idle_after_a_storm() -> None:
    async with FakeOllama(speedup=20) as fake:
        engine = OllamaEngine(fake.url)
        chat = Chat(Catalog([engine]))
        await chat.catalog.models()
        fake.unload()
        async with nothing_left(chat, fake.idle.wait):
            for part in range(4):
                await storm(chat, "gemma2:2b", 40, seed=1000 + 40 * part)
                fake.unload()
        assert fake.cancelled > 25
        await engine.close()


async def test_vllm_is_idle_after_a_storm() -> None:
    async with FakeOpenAI("vllm") as fake:
        chance = random.Random(7)
        for _ in range(120):
            fake.script(chance.choice((Answer(hangs=True), Answer("some words", then="freeze"), Answer("a reply"))))
        engine = OpenAICompatibleEngine(fake.url)
        chat = Chat(Catalog([engine]), slots=2)
        await chat.catalog.models()
        async with nothing_left(chat, fake.idle.wait):
            await storm(chat, f"vllm/{fake.models[0]}", 120, seed=2000)
        assert fake.cancelled > 10
        await engine.close()


@pytest.fixture(scope="module")
def llama_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("llama")
    options = ("-c", "2048", "-np", "2", "-b", "64", "-ub", "64")
    with llama_server(guide_as_gguf(folder), folder, *options) as program:
        yield program.url


async def test_a_real_llama_server_is_idle_after_a_storm(llama_url: str) -> None:
    engine = OpenAICompatibleEngine(llama_url)
    chat = Chat(Catalog([engine]))
    await chat.catalog.models()

    async def idle() -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            while any(slot["is_processing"] for slot in (await http.get(f"{llama_url}/slots")).json()):
                await asyncio.sleep(0.02)

    async with nothing_left(chat, idle):
        await storm(chat, (await engine.models())[0].id, 80, seed=3000)
    await engine.close()


async def test_transformers_are_idle_after_a_storm(caplog: pytest.LogCaptureFixture) -> None:
    if not (GUIDE_DIR / "config.json").is_file():
        pytest.skip("the guide is not there; train it: make train-guide")
    pytest.importorskip("torch")
    engine: Engine = LocalEngine(GUIDE_DIR, [], device="cpu")
    assert isinstance(engine, LocalEngine)
    chat = Chat(Catalog([engine]))
    await chat.catalog.models()
    caplog.set_level("INFO")
    # Loading cannot be broken off; the next one finds the model there.
    loading = asyncio.create_task(anext(aiter(engine_loads(engine))))
    await asyncio.sleep(0.01)
    loading.cancel()
    await asyncio.wait({loading})
    assert "cannot be broken off" in caplog.text

    async def idle() -> None:
        await engine.load(GUIDE, 512)  # gets its turn on the one thread

    await idle()
    async with nothing_left(chat, idle):
        await storm(chat, f"transformers/{GUIDE}", 80, seed=4000)
    await engine.close()


async def engine_loads(engine: LocalEngine) -> AsyncIterator[object]:
    """A completion from after `Loading` on."""
    from app.engines.base import ChatMessage, CompletionRequest

    asked = CompletionRequest(GUIDE, (ChatMessage("user", "hi"),), GenerationOptions(max_tokens=4), 512)
    async for event in engine.complete(asked):
        if not isinstance(event, Loading):
            yield event


def test_a_server_has_no_slot_no_task_and_no_memory_less_after_a_storm(tmp_path: Path) -> None:
    """Through the page's socket and both APIs; see bench/cancels.py for more of it."""
    with (
        fake_ollama(tmp_path, "--speedup", "6") as ollama,
        # engine.io's task for a page that has gone ends with its next ping.
        server(
            tmp_path, OLLAMA_HOST=ollama.url, AWAY_SECONDS="0", LOG_LEVEL="WARNING", **quick_pings(tmp_path, 1)
        ) as site,
    ):
        gust = Storm(site, ollama)
        kinds = gust.blow(100, seed=1)
        gust.seconds_to_idle()
        before = gust.rest()
        kinds += gust.blow(100, seed=2)
        assert gust.seconds_to_idle() < 2
        after = gust.rest(before.tasks)
        assert after.tasks - before.tasks == Counter()
        assert after.memory - before.memory < 5e6
        assert min(kinds.values()) > 20
        assert "Traceback" not in site.text()
