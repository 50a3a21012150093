"""The key-value caches that the transformers engine keeps: used where they can be, and never wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines.base import Delta, Reading
from app.engines.local import LocalEngine
from app.engines.local_cache import ConversationCaches
from app.errors import EngineFailed
from tests.fakes.tiny_model import make_tiny_model
from tests.local import ask, before_each_step, request


class FakeCache:
    """transformers' DynamicCache as far as it is used: it knows what was written to it, and how it may be cut."""

    def __init__(self, *, is_croppable: bool = True, forgets: bool = False) -> None:
        self.holds: list[int] = []
        self.is_croppable = is_croppable
        self.forgets = forgets

    def get_seq_length(self) -> int:
        return len(self.holds)

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove >= 0:
            raise ValueError("a negative number of tokens")
        if self.forgets or not self.is_croppable:
            raise RuntimeError("the layer does not track past states")
        del self.holds[tokens_to_remove:]


IDS = st.lists(st.integers(0, 3), min_size=1, max_size=8)


@given(turns=st.lists(st.tuples(st.sampled_from("abc"), IDS, IDS), max_size=12), kept=st.integers(1, 3))
def test_a_cache_never_holds_anything_but_the_beginning_of_the_prompt(
    turns: list[tuple[str, list[int], list[int]]], kept: int
) -> None:
    caches = ConversationCaches(FakeCache, kept)
    for name, prompt, reply in turns:
        conversation = caches.take(name, prompt)
        shared = len(conversation.ids)
        assert conversation.cache.holds == conversation.ids == prompt[:shared]
        assert shared < len(prompt)
        conversation.cache.holds += prompt[shared:] + reply[:-1]
        conversation.ids = prompt + reply[:-1]
        caches.keep(name, conversation)
        assert len(caches) <= kept


def test_a_cache_that_does_not_hold_what_is_said_of_it_is_not_kept() -> None:
    caches = ConversationCaches(FakeCache, 2)
    conversation = caches.take("a", [1, 2, 3])
    conversation.cache.holds = [1, 2, 3]
    conversation.ids = [1, 2]
    caches.keep("a", conversation)
    assert len(caches) == 0


def test_a_cache_is_nobodys_while_it_is_in_use() -> None:
    caches = ConversationCaches(FakeCache, 2)
    conversation = caches.take("a", [1, 2, 3])
    conversation.cache.holds = conversation.ids = [1, 2]
    caches.keep("a", conversation)
    assert caches.take("a", [1, 2, 3]) is not caches.take("a", [1, 2, 3])
    assert len(caches) == 0


@pytest.mark.parametrize("nature", [{"is_croppable": False}, {"forgets": True}])
def test_a_cache_that_cannot_be_cut_is_used_as_it_is_or_not_at_all(nature: dict[str, bool]) -> None:
    caches = ConversationCaches(lambda: FakeCache(**nature), 2)
    conversation = caches.take("a", [1, 2, 3])
    conversation.cache.holds = conversation.ids = [1, 2]
    caches.keep("a", conversation)
    conversation = caches.take("a", [1, 2, 3])
    assert conversation.ids == [1, 2]
    caches.keep("a", conversation)
    assert caches.take("a", [1, 5, 6]).ids == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="torch is not installed (make install-local)")
    pytest.importorskip("transformers", reason="transformers is not installed (make install-local)")
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(folder, [], device="cpu", caches=2)
    await engine.load("guide", 2048)
    yield engine
    await engine.close()


LONG = "a long first message " * 12


async def text_of(engine: LocalEngine, *texts: str, system: str = "") -> str:
    """The reply by a cache of its own."""
    return (await ask(engine, request("guide", *texts, conversation=None, system=system))).text


async def test_a_message_that_is_edited_is_read_from_where_it_differs(engine: LocalEngine) -> None:
    first = await ask(engine, request("guide", LONG))
    await ask(engine, request("guide", LONG, first.text, "next"))
    edited = await ask(engine, request("guide", LONG, first.text, "never"))
    assert edited.text == await text_of(engine, LONG, first.text, "never")
    assert first.prompt < edited.cached < edited.prompt
    other = await ask(engine, request("guide", "something else"))
    assert other.text == await text_of(engine, "something else")
    assert 0 < other.cached < 20


async def test_the_same_prompt_again_reads_its_last_token_only(engine: LocalEngine) -> None:
    first = await ask(engine, request("guide", LONG))
    again = await ask(engine, request("guide", LONG))
    assert again.text == first.text
    assert again.cached == again.prompt - 1


async def test_a_shorter_conversation_after_a_longer_one_is_read_right(engine: LocalEngine) -> None:
    first = await ask(engine, request("guide", LONG))
    await ask(engine, request("guide", LONG, first.text, LONG, system="be short"))
    again = await ask(engine, request("guide", LONG))
    assert again.text == first.text


async def test_another_system_prompt_makes_another_conversation(engine: LocalEngine) -> None:
    await ask(engine, request("guide", LONG, system="be short"))
    other = await ask(engine, request("guide", LONG, system="be kind"))
    assert other.text == await text_of(engine, LONG, system="be kind")
    assert 0 < other.cached < 40


async def test_a_conversation_without_a_name_keeps_nothing(engine: LocalEngine) -> None:
    await ask(engine, request("guide", LONG, conversation=None))
    assert (await ask(engine, request("guide", LONG, conversation=None))).cached == 0


async def test_conversations_share_nothing_though_they_begin_alike(engine: LocalEngine) -> None:
    await ask(engine, request("guide", LONG, conversation="one"))
    assert (await ask(engine, request("guide", LONG, conversation="other"))).cached == 0


async def test_the_conversation_unused_longest_is_forgotten(engine: LocalEngine) -> None:
    for name in ("one", "two", "one", "three"):
        await ask(engine, request("guide", LONG, conversation=name))
    assert (await ask(engine, request("guide", LONG, conversation="one"))).cached > 0
    assert (await ask(engine, request("guide", LONG, conversation="two"))).cached == 0


async def test_what_a_cancelled_reading_has_read_is_not_read_again(engine: LocalEngine) -> None:
    async with aclosing(engine.complete(request("guide", LONG))) as events:
        async for event in events:
            assert isinstance(event, Reading)
            if event.processed:
                break
    after = await ask(engine, request("guide", LONG))
    assert 0 < after.cached < after.prompt
    assert after.text == await text_of(engine, LONG)


async def test_a_conversation_goes_on_rightly_after_a_reply_was_stopped(engine: LocalEngine) -> None:
    said = ""
    async with aclosing(engine.complete(request("guide", LONG, max_tokens=500))) as events:
        async for event in events:
            if isinstance(event, Delta):
                said += event.text
                if len(said) > 5:
                    break
    after = await ask(engine, request("guide", LONG, said, "go on"))
    assert after.cached > 0
    assert after.text == await text_of(engine, LONG, said, "go on")


@pytest.mark.parametrize("step", [2, 6, 12])
async def test_a_cache_in_use_while_the_model_broke_is_not_trusted(engine: LocalEngine, step: int) -> None:
    await ask(engine, request("guide", "hello"))
    steps = 0

    def fail() -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            raise RuntimeError("broken on purpose")

    with before_each_step(fail), pytest.raises(EngineFailed, match="broken on purpose"):
        await ask(engine, request("guide", LONG))
    after = await ask(engine, request("guide", LONG))
    assert after.cached == 0
    assert after.text == await text_of(engine, LONG)
