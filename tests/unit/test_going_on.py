"""Going on with a reply that was cut off: what is sent, what is read, and the seam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat import Chat
from app.engines.base import ChatMessage, Delta, Engine, GenerationOptions
from app.engines.catalog import Catalog
from app.engines.local import GUIDE, LocalEngine
from app.engines.ollama import OllamaEngine
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.errors import CannotGoOn, EngineFailed, ReplyTooLong
from app.going_on import Seam
from app.history import SessionHistory, StoredMessage
from app.prompting import ReplyOptions
from app.settings import GUIDE_DIR
from app.turn import ChatTurn
from tests.fakes.engine import ScriptedEngine
from tests.fakes.models import FakeModel
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai_server import Answer, FakeOpenAI
from tests.servers import guide_as_gguf, llama_server

MODEL = "ollama/gemma2:2b"
QUESTION = "How do I start it?"


def chat_with(*engines: Engine, num_ctx: int = 4096) -> Chat:
    for engine in engines:
        if isinstance(engine, ScriptedEngine):
            engine.features = frozenset(("continue",))
    return Chat(Catalog(engines, num_ctx=num_ctx))


def options(model: str = "", max_tokens: int = 1024, **generation: object) -> ReplyOptions:
    wanted = GenerationOptions(temperature=0, max_tokens=max_tokens, **generation)  # type: ignore[arg-type]
    return ReplyOptions(model or MODEL, generation=wanted)


def ask(chat: Chat, history: SessionHistory, text: str, how: ReplyOptions) -> ChatTurn:
    number = len(history)
    return chat.turn(history, StoredMessage(f"q{number}", text), f"a{number}", how)


def go_on(chat: Chat, history: SessionHistory, how: ReplyOptions) -> ChatTurn:
    last = history.last
    assert last is not None
    assert last.answer is not None
    return chat.turn(history, last.question, last.answer.id, how, begun=last.answer)


async def run(turn: ChatTurn) -> str:
    """What the turn brings, in the pieces in which it comes."""
    return "".join([event.text async for event in turn.events() if isinstance(event, Delta)])


# The seam


SPACE = st.text(alphabet=" \n\t", max_size=4)
WORDS = st.text(alphabet="ab \n.", max_size=8).map(str.strip).filter(bool)


@given(first=WORDS, before=SPACE, after=SPACE, rest=WORDS, cut=st.integers(0, 12))
def test_white_space_at_the_seam_is_neither_lost_nor_doubled(
    first: str, before: str, after: str, rest: str, cut: int
) -> None:
    seam = Seam(StoredMessage("a", first + before))
    come = after + rest
    pieces = [come[:cut], come[cut:]]
    assert seam.sent.text == first
    joined = seam.sent.text + "".join(seam.feed(piece) for piece in pieces)
    between = joined[len(first) : len(joined) - len(rest)]
    assert joined == first + between + rest
    assert between.strip() == ""
    assert between.count("\n") == max(before.count("\n"), after.count("\n"))
    assert bool(between) == bool(before + after)


@pytest.mark.parametrize(
    ("begun", "come", "whole"),
    [
        ("one two", " three", "one two three"),
        ("one two ", " three", "one two three"),
        ("one two ", "three", "one two three"),
        ("interna", "tional", "international"),
        ("- a\n", "\n- b", "- a\n- b"),
        ("end.\n\n", "\nNext", "end.\n\nNext"),
        ("def f():\n", "\n    return 1", "def f():\n    return 1"),
        ("end.\n\n", "\n    code", "end.\n\n    code"),
        ("line\n", " next", "line\nnext"),
        ("При\ufffd", "вет", "Привет"),
    ],
)
def test_the_seam_is_as_if_it_had_been_written_at_once(begun: str, come: str, whole: str) -> None:
    seam = Seam(StoredMessage("a", begun))
    assert seam.sent.text + "".join(map(seam.feed, come)) == whole


# A turn


async def test_a_cut_reply_goes_on_and_the_history_has_it_whole() -> None:
    engine = ScriptedEngine("one two three", " four five")
    chat, history = chat_with(engine), SessionHistory("c")
    first = ask(chat, history, "count", options(max_tokens=2))
    await run(first)
    assert (first.text, first.finish_reason, first.can_go_on) == ("one two", "length", True)
    rest = go_on(chat, history, options())
    assert await run(rest) == " four five"
    assert engine.requests[1].messages == (ChatMessage("user", "count"), ChatMessage("assistant", "one two"))
    assert (rest.text, rest.came, rest.can_go_on) == ("one two four five", " four five", False)
    assert history.last is not None
    assert len(history) == 1
    answer = history.last.answer
    assert answer is rest.answer is not None
    assert (answer.id, answer.text) == ("a0", "one two four five")
    assert rest.metrics is not None
    assert rest.metrics.characters == len(" four five")
    # Counted as the engine counted its parts, so that the next window is right.
    assert answer.tokens[MODEL] == 2 + (rest.metrics.reply_tokens or 0)
    assert "a0" not in rest.counted
    await run(ask(chat, history, "next", options()))
    assert [message.content for message in engine.requests[2].messages] == ["count", "one two four five", "next"]


async def test_a_stopped_reply_goes_on() -> None:
    engine = ScriptedEngine("one two three", " three")
    chat, history = chat_with(engine), SessionHistory("c")
    turn = ask(chat, history, "count", options())
    async with aclosing(turn.events()) as events:
        async for _ in events:
            if turn.text == "one two":
                break
    assert turn.can_go_on
    rest = go_on(chat, history, options())
    await run(rest)
    assert rest.text == "one two three"


async def test_a_reply_that_its_model_ended_does_not_go_on() -> None:
    chat, history = chat_with(ScriptedEngine("one two three")), SessionHistory("c")
    turn = ask(chat, history, "count", options())
    await run(turn)
    assert not turn.can_go_on


@pytest.mark.parametrize("came", [(), (" three",)])
async def test_a_continuation_that_fails_loses_nothing_and_can_be_gone_on_with(came: tuple[str, ...]) -> None:
    engine = ScriptedEngine("one two three", (*came, EngineFailed(engine="Ollama", detail="x")), " four")
    chat, history = chat_with(engine), SessionHistory("c")
    await run(ask(chat, history, "count", options(max_tokens=2)))
    failing = go_on(chat, history, options())
    with pytest.raises(EngineFailed):
        await run(failing)
    assert failing.text == "one two" + "".join(came)
    assert failing.can_go_on
    again = go_on(chat, history, options())
    await run(again)
    assert again.text == "one two" + "".join(came) + " four"


async def test_an_engine_that_cannot_go_on_is_not_asked_to() -> None:
    engine = ScriptedEngine("one two three")
    chat, history = chat_with(engine), SessionHistory("c")
    engine.features = frozenset()
    turn = ask(chat, history, "count", options(max_tokens=2))
    await run(turn)
    assert not turn.can_go_on
    with pytest.raises(CannotGoOn):
        await run(go_on(chat, history, options()))
    assert history.last is not None
    assert history.last.answer is turn.answer


async def test_older_turns_leave_only_where_a_reply_has_no_room_to_go_on() -> None:
    async with FakeOllama(speedup=float("inf")) as server:
        engine = OllamaEngine(server.url)
        chat, history = chat_with(engine, num_ctx=512), SessionHistory("c")
        await run(ask(chat, history, "!words 60", options(max_tokens=60)))
        last = ask(chat, history, "!words 500", options(max_tokens=100))
        await run(last)
        firsts = []
        while last.can_go_on:
            last = go_on(chat, history, options(max_tokens=100))
            await run(last)
            firsts.append(server.requests[-1]["messages"][0]["content"])
        assert firsts == ["!words 60", "!words 60", "!words 60", "!words 500"]
        assert last.context_full
        assert last.text == " ".join(last.text.split())
        assert 380 < len(last.text.split()) < 512
        await engine.close()


async def test_a_reply_that_has_filled_the_context_says_so() -> None:
    engine = ScriptedEngine("a " * 300, " b", context=256)
    chat, history = chat_with(engine, num_ctx=256), SessionHistory("c")
    turn = ask(chat, history, "first", options(max_tokens=240))
    await run(turn)
    assert (turn.finish_reason, turn.can_go_on, turn.context_full) == ("length", False, True)
    again = go_on(chat, history, options())
    with pytest.raises(ReplyTooLong):
        await run(again)
    assert not again.can_go_on
    assert again.answer is turn.answer


async def test_a_model_that_thinks_does_not_think_again_within_its_answer() -> None:
    engine = ScriptedEngine("one two three", " <think> three", can_think=True)
    chat, history = chat_with(engine), SessionHistory("c")
    await run(ask(chat, history, "count", options(max_tokens=2, think=True)))
    await run(go_on(chat, history, options(think=True)))
    assert [request.options.think for request in engine.requests] == [True, False]


# Engines


async def test_only_the_last_tokens_are_read_by_ollama() -> None:
    async with FakeOllama(speedup=float("inf")) as server:
        engine = OllamaEngine(server.url)
        chat, history = chat_with(engine), SessionHistory("c")
        await run(ask(chat, history, "word " * 400, options(max_tokens=1)))
        await run(ask(chat, history, "!words 60", options(max_tokens=40)))
        before = server.tokens_read
        rest = go_on(chat, history, options())
        await run(rest)
        assert server.tokens_read - before <= 2
        assert rest.text == " ".join(rest.text.split())
        assert len(rest.text.split()) == 60
        await engine.close()


async def test_what_goes_on_is_never_taken_for_reasoning() -> None:
    async with FakeOllama(
        FakeModel("qwen3:0.6b", capabilities=("completion", "thinking")), speedup=float("inf")
    ) as server:
        engine = OllamaEngine(server.url)
        chat, history = chat_with(engine), SessionHistory("c")
        await run(ask(chat, history, "!words 9", options("ollama/qwen3:0.6b", max_tokens=4, think=True)))
        server.script("!echo <think>is a tag")
        rest = go_on(chat, history, options("ollama/qwen3:0.6b", think=True))
        await run(rest)
        assert (rest.reasoning, rest.came) == ("", "<think>is a tag")
        await engine.close()


async def test_vllm_is_asked_to_go_on_and_lm_studio_is_not() -> None:
    for flavour in ("vllm", "lm-studio"):
        async with FakeOpenAI(flavour) as server:  # type: ignore[arg-type]
            server.script(Answer("one two", finish="length"), Answer(" three"))
            engine = OpenAICompatibleEngine(server.url)
            chat, history = chat_with(engine), SessionHistory("c")
            how = options(f"vllm/{server.models[0]}")
            turn = ask(chat, history, "count", how)
            await run(turn)
            assert turn.can_go_on == (flavour == "vllm")
            if turn.can_go_on:
                rest = go_on(chat, history, how)
                await run(rest)
                assert rest.text == "one two three"
                assert server.requests[-1]["continue_final_message"] is True
            await engine.close()


async def _pieced_together(engine: Engine, model: str, part: int) -> tuple[str, str, list[int]]:
    """A greedy reply written at once and one in parts of so many tokens; and how much was read for each part."""
    chat, history = chat_with(engine), SessionHistory("whole")
    turn = ask(chat, history, QUESTION, options(model))
    await run(turn)
    history, read = SessionHistory("parts"), []
    last = ask(chat, history, QUESTION, options(model, part))
    await run(last)
    while last.can_go_on:
        last = go_on(chat, history, options(model, part))
        await run(last)
        assert last.metrics is not None
        read.append((last.metrics.prompt_tokens or 0) - (last.metrics.cached_tokens or 0))
    return turn.text, last.text, read


@pytest.mark.parametrize("part", [7, 16])
async def test_the_guide_in_transformers_goes_on_as_if_it_had_never_been_cut(part: int) -> None:
    if not (GUIDE_DIR / "config.json").is_file():
        pytest.skip("the guide is not there; train it: make train-guide")
    pytest.importorskip("torch")
    engine = LocalEngine(GUIDE_DIR, [], device="cpu")
    whole, parts, read = await _pieced_together(engine, f"transformers/{GUIDE}", part)
    await engine.close()
    assert parts == whole
    assert len(read) > 1
    assert max(read) <= 4


@pytest.fixture(scope="module")
def llama_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("llama")
    with llama_server(guide_as_gguf(folder), folder, "-c", "2048", "-np", "1") as program:
        yield program.url


async def test_a_real_llama_server_goes_on_as_if_it_had_never_been_cut(llama_url: str) -> None:
    engine = OpenAICompatibleEngine(llama_url)
    name = (await engine.models())[0].name
    whole, parts, read = await _pieced_together(engine, f"vllm/{name}", 12)
    await engine.close()
    assert parts == whole
    assert len(read) > 1
    assert max(read) <= 6
