"""One turn, from the question to its reply, whatever the engine does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from app.chat import Chat
from app.engines.base import (
    ChatMessage,
    CompletionRequest,
    Delta,
    Embeddings,
    EngineEvent,
    GenerationOptions,
    JsonFormat,
    Loading,
    Reading,
    ToolCall,
    ToolCalls,
)
from app.engines.catalog import Catalog
from app.errors import (
    Busy,
    ConversationTooLong,
    EmptyMessage,
    EngineFailed,
    EngineUnreachable,
    MessageTooLarge,
    MessageTooLong,
    NoModel,
    Stopping,
    StreamCut,
    Unsupported,
)
from app.history import SessionHistory, StoredMessage, Turn, turns_of
from app.prompting import ReplyOptions
from app.turn import ChatTurn, Event, Finished, Waiting, readable
from tests.fakes.engine import ScriptedEngine

UNREACHABLE = EngineUnreachable(engine="Ollama", url="http://localhost:11434")


def chat_with(*engines: ScriptedEngine, num_ctx: int = 4096, **limits: object) -> Chat:
    return Chat(Catalog(engines, num_ctx=num_ctx), **limits)  # type: ignore[arg-type]


def ask(chat: Chat, history: SessionHistory, text: str, model: str = "gemma2:2b", **generation: object) -> ChatTurn:
    number = len(history)
    options = ReplyOptions(model, generation=GenerationOptions(**generation))  # type: ignore[arg-type]
    return chat.turn(history, StoredMessage(f"q{number}", text), f"a{number}", options)


async def events_of(turn: ChatTurn) -> list[Event]:
    return [event async for event in turn.events()]


async def test_a_turn_streams_its_reply_and_keeps_it_in_the_history() -> None:
    engine = ScriptedEngine("hello there friend")
    history = SessionHistory("c")
    turn = ask(chat_with(engine), history, "hi")
    events = await events_of(turn)
    assert events == [
        Reading(seconds_left=1.0),
        Delta("hello"),
        Delta(" there"),
        Delta(" friend"),
        Finished("stop"),
    ]
    assert turn.text == "hello there friend"
    assert history.last is not None
    assert history.last.answer == turn.answer
    assert turn.answer is not None
    assert turn.answer.tokens == {"ollama/gemma2:2b": 3}


async def test_the_metrics_are_the_engines_counts() -> None:
    turn = ask(chat_with(ScriptedEngine("a b c d")), SessionHistory("c"), "one two")
    await events_of(turn)
    metrics = turn.metrics
    assert metrics is not None
    assert (metrics.outcome, metrics.prompt_tokens, metrics.reply_tokens, metrics.estimated) == (
        "finished",
        7,
        4,
        False,
    )
    assert (metrics.context_used, metrics.context_length, metrics.characters) == (11, 4096, 7)
    assert metrics.tokens_per_second == pytest.approx(10)


async def test_the_next_turn_sends_the_conversation() -> None:
    engine = ScriptedEngine("first reply", "second")
    chat, history = chat_with(engine), SessionHistory("c")
    await events_of(ask(chat, history, "one"))
    await events_of(ask(chat, history, "two"))
    assert [message.content for message in engine.requests[1].messages] == ["one", "first reply", "two"]


@pytest.mark.parametrize("text", ["", "  \n\t", "\0"])
async def test_an_empty_message_is_refused_and_not_kept(text: str) -> None:
    history = SessionHistory("c")
    with pytest.raises(EmptyMessage):
        await events_of(ask(chat_with(ScriptedEngine()), history, text))
    assert len(history) == 0


async def test_a_message_that_is_refused_stays_in_its_place_without_an_answer() -> None:
    history = SessionHistory("c")
    chat = chat_with(ScriptedEngine("one", "two"), max_message_bytes=10)
    await events_of(ask(chat, history, "first"))
    with pytest.raises(MessageTooLarge):
        await events_of(ask(chat, history, "much too large"))
    await events_of(ask(chat, history, "third"))
    await events_of(chat.turn(history, StoredMessage("q1", "second"), "a", ReplyOptions("gemma2:2b")))
    assert [turn.question.text for turn in history] == ["first", "second"]


@pytest.mark.parametrize("text", ["a " * 300, "x" * 5000, " "])
async def test_an_edit_that_is_refused_changes_nothing(text: str) -> None:
    engine = ScriptedEngine("one", "two", "three", context=512)
    chat, history = chat_with(engine, num_ctx=512, max_message_bytes=4000), SessionHistory("c")
    for question in ("first", "second"):
        await events_of(ask(chat, history, question))
    before = [(turn.question.text, turn.answer) for turn in history]
    turn = chat.turn(history, StoredMessage("q0", text), "a", ReplyOptions("gemma2:2b"))
    with pytest.raises((MessageTooLong, MessageTooLarge, EmptyMessage)):
        await events_of(turn)
    assert turn.refused
    assert [(turn.question.text, turn.answer) for turn in history] == before
    await events_of(ask(chat, history, "third"))
    assert [m.content for m in engine.requests[-1].messages] == ["first", "one", "second", "two", "third"]


async def test_what_comes_back_from_the_database_makes_the_same_prompts() -> None:
    """Also where the engine has counted only a part of the messages, and another conversation has taught otherwise."""

    async def talk(chat: Chat, history: SessionHistory, numbers: range) -> None:
        for n in numbers:
            text = ("word " if n % 3 else "incomprehensibilities ") * (5 + n % 7)
            turn = ask(chat, history, f"{n} {text}", max_tokens=100)
            if n % 5 == 4:  # stopped: nothing is counted
                events = turn.events()
                async for event in events:
                    if isinstance(event, Delta):
                        break
                await events.aclose()
            else:
                await events_of(turn)

    def engine() -> ScriptedEngine:
        return ScriptedEngine(*[f"reply {n} " + "is long " * (n % 11) for n in range(80)], context=512)

    live_engine, again_engine = engine(), engine()
    live = SessionHistory("c")
    chat = chat_with(live_engine, num_ctx=512)
    for end in range(20, 40):
        await talk(chat, live, range(len(live), end))
        stored = [
            Turn(
                StoredMessage(turn.question.id, turn.question.text, dict(turn.question.tokens)),
                turn.answer and StoredMessage(turn.answer.id, turn.answer.text, dict(turn.answer.tokens), "assistant"),
            )
            for turn in live
        ]
        fresh = chat_with(again_engine, num_ctx=512)
        await events_of(ask(fresh, SessionHistory("other"), "a " * 100))
        again_engine.requests.clear()
        await events_of(ask(fresh, SessionHistory("c", stored), "and now?", max_tokens=100))
        await events_of(ask(chat, live, "and now?", max_tokens=100))
        assert again_engine.requests[0] == live_engine.requests[-1]
        assert len(again_engine.requests[0].messages) < 2 * len(live)


async def test_without_any_model_the_visitor_is_told_so() -> None:
    with pytest.raises(NoModel):
        await events_of(ask(chat_with(ScriptedEngine(models=[])), SessionHistory("c"), "hi", model=""))


async def test_a_message_with_too_many_bytes_is_refused_with_both_numbers() -> None:
    with pytest.raises(MessageTooLarge) as refused:
        await events_of(ask(chat_with(ScriptedEngine(), max_message_bytes=10), SessionHistory("c"), "привет"))
    assert refused.value.facts == {"size": 12, "limit": 10}


async def test_a_message_of_100_kb_is_refused_by_its_tokens_without_asking_the_engine() -> None:
    engine = ScriptedEngine()
    with pytest.raises(MessageTooLong):
        await events_of(ask(chat_with(engine), SessionHistory("c"), "word " * 20_000))
    assert engine.requests == []


def test_nul_and_broken_surrogates_are_made_readable() -> None:
    assert readable("a\0b\ud800c\U0001f600") == "ab\ufffdc\U0001f600"


async def test_a_prompt_that_was_estimated_too_small_is_cut_again_and_nobody_notices() -> None:
    # The engine counts two tokens a word: what long words have taught is far below the truth for words of one letter.
    engine = ScriptedEngine("ok", "ok", "ok", "ok", context=512)
    chat, history = chat_with(engine, num_ctx=512), SessionHistory("c")
    for text in ("incomprehensibilities " * 40, "a " * 100, "a " * 150):
        turn = ask(chat, history, text, max_tokens=64)
        events = await events_of(turn)
        assert events[-1] == Finished("stop")
        assert turn.text == "ok"
    refused = [request for request in engine.requests if engine.size(request) > 512]
    assert refused, "the case did not arise"
    assert len(refused) <= 2


async def test_a_message_that_is_really_too_long_is_refused_with_the_engines_number() -> None:
    engine = ScriptedEngine(context=512)
    with pytest.raises(MessageTooLong) as refused:
        await events_of(ask(chat_with(engine, num_ctx=512), SessionHistory("c"), "a " * 300))
    assert refused.value.facts["tokens"] == 603 - 8


async def test_a_failure_keeps_what_had_come() -> None:
    history = SessionHistory("c")
    turn = ask(chat_with(ScriptedEngine(("half of", StreamCut(engine="Ollama")))), history, "hi")
    with pytest.raises(StreamCut):
        await events_of(turn)
    assert turn.text == "half of"
    assert turn.metrics is not None
    assert turn.metrics.outcome == "failed"
    assert turn.metrics.estimated
    assert history.last is not None
    assert history.last.answer is not None


async def test_stopping_ends_the_engines_work_and_keeps_what_had_come() -> None:
    engine = ScriptedEngine("one two three")
    history = SessionHistory("c")
    chat = chat_with(engine)
    turn = ask(chat, history, "hi")
    async with aclosing(turn.events()) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    assert engine.closed == 1
    assert turn.metrics is not None
    assert turn.metrics.outcome == "stopped"
    assert turn.text == "one"
    assert chat.queue_of(engine).serving == 0


async def test_cancelling_the_reading_task_gives_the_slot_back() -> None:
    engine = ScriptedEngine("never")
    engine.go_on.clear()
    chat = chat_with(engine)
    task = asyncio.create_task(events_of(ask(chat, SessionHistory("c"), "hi")))
    while not engine.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.closed == 1
    assert chat.queue_of(engine).serving == 0


async def test_who_comes_second_waits_and_is_told_so() -> None:
    engine = ScriptedEngine("first", "second")
    engine.go_on.clear()
    chat = chat_with(engine)
    first = asyncio.create_task(events_of(ask(chat, SessionHistory("a"), "hi")))
    while not engine.requests:
        await asyncio.sleep(0)
    second = asyncio.create_task(events_of(ask(chat, SessionHistory("b"), "hi")))
    while not chat.queue_of(engine).waiting:
        await asyncio.sleep(0)
    engine.go_on.set()
    await first
    waited = (await second)[0]
    assert isinstance(waited, Waiting)
    assert waited.ahead == 1
    # As gemma2:2b on two cores would be expected to take: nothing is known of this one yet.
    assert waited.seconds_left == pytest.approx(200 / 17.8 + 5 / 55, rel=0.1)


async def test_a_server_that_ends_keeps_its_promise_to_who_waits_and_promises_no_more() -> None:
    engine = ScriptedEngine("first", "second")
    engine.go_on.clear()
    chat = chat_with(engine)
    turns = [ask(chat, SessionHistory(name), "hi") for name in "ab"]
    tasks = [asyncio.create_task(events_of(turn)) for turn in turns]
    while not chat.queue_of(engine).waiting:
        await asyncio.sleep(0)
    chat.stopping = True
    with pytest.raises(Stopping):
        await events_of(ask(chat, SessionHistory("c"), "hi"))
    engine.go_on.set()
    await asyncio.gather(*tasks)
    assert [turn.text for turn in turns] == ["first", "second"]


async def test_who_finds_the_queue_full_is_refused_at_once() -> None:
    engine = ScriptedEngine("first")
    engine.go_on.clear()
    chat = chat_with(engine, max_waiting=0)
    first = asyncio.create_task(events_of(ask(chat, SessionHistory("a"), "hi")))
    while not engine.requests:
        await asyncio.sleep(0)
    refused = ask(chat, SessionHistory("b"), "hi")
    with pytest.raises(Busy):
        await events_of(refused)
    assert refused.metrics is not None
    assert refused.metrics.queue_seconds == 0
    engine.go_on.set()
    await first


async def test_the_fallback_answers_when_the_engine_fails_before_its_first_token() -> None:
    broken = ScriptedEngine(UNREACHABLE)
    spare = ScriptedEngine("from the spare", name="vllm", models=["spare"])
    turn = ask(chat_with(broken, spare, fallback_model="vllm/spare"), SessionHistory("c"), "hi")
    await events_of(turn)
    assert turn.text == "from the spare"
    assert turn.fallback_from is not None
    assert turn.fallback_from.id == "ollama/gemma2:2b"
    assert turn.model is not None
    assert turn.model.id == "vllm/spare"


async def test_the_fallback_does_not_answer_in_the_middle_of_a_reply() -> None:
    broken = ScriptedEngine(("begun", EngineFailed(engine="Ollama", detail="x")))
    spare = ScriptedEngine(name="vllm", models=["spare"])
    with pytest.raises(EngineFailed):
        await events_of(ask(chat_with(broken, spare, fallback_model="vllm/spare"), SessionHistory("c"), "hi"))
    assert spare.requests == []


async def test_a_fallback_that_cannot_do_what_is_asked_leaves_the_failure_as_it_is() -> None:
    broken, spare = ScriptedEngine(UNREACHABLE), ScriptedEngine(name="vllm", models=["spare"])
    broken.features = frozenset({"seed"})
    with pytest.raises(EngineUnreachable):
        await events_of(ask(chat_with(broken, spare, fallback_model="vllm/spare"), SessionHistory("c"), "hi", seed=1))
    assert spare.requests == []


async def test_without_a_fallback_the_failure_is_the_engines() -> None:
    with pytest.raises(EngineUnreachable):
        await events_of(ask(chat_with(ScriptedEngine(UNREACHABLE)), SessionHistory("c"), "hi"))


async def test_thinking_is_asked_of_models_that_can_alone() -> None:
    for can_think in (False, True):
        engine = ScriptedEngine(can_think=can_think)
        await events_of(ask(chat_with(engine), SessionHistory("c"), "hi", think=True))
        assert engine.requests[0].options.think is can_think


async def test_the_reply_is_bounded_by_what_the_window_leaves() -> None:
    engine = ScriptedEngine(context=1024)
    await events_of(ask(chat_with(engine, num_ctx=1024), SessionHistory("c"), "hi", max_tokens=4096))
    assert engine.requests[0].options.max_tokens < 1024


async def test_the_turn_tells_when_older_messages_leave_the_window() -> None:
    engine = ScriptedEngine(*["reply " * 20] * 30, context=512)
    chat, history = chat_with(engine, num_ctx=512), SessionHistory("c")
    told = []
    for _ in range(20):
        turn = ask(chat, history, "tell me more about it", max_tokens=100)
        await events_of(turn)
        told.append((turn.newly_left_out, turn.left_out))
    assert told[0] == (False, 0)
    assert sum(new for new, _ in told) >= 2
    assert all(new == (count > before) for (new, count), (_, before) in zip(told[1:], told, strict=False))


async def test_the_log_has_no_text_of_the_visitors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await events_of(ask(chat_with(ScriptedEngine("secret reply")), SessionHistory("c"), "secret question"))
    assert "secret" not in caplog.text
    assert "CHAT ollama/gemma2:2b finished" in caplog.text


def conversation(*said: tuple[str, str]) -> SessionHistory:
    """Messages as a program sends them: role and text."""
    messages = [StoredMessage(str(n), text, role=role) for n, (role, text) in enumerate(said)]  # type: ignore[arg-type]
    return SessionHistory("c", turns_of(messages))


def turn_of(chat: Chat, history: SessionHistory, options: ReplyOptions) -> ChatTurn:
    assert history.last is not None
    return chat.turn(history, history.last.question, "answer", options)


async def test_a_conversation_is_read_as_a_program_sends_it_whatever_its_roles() -> None:
    engine = ScriptedEngine("done")
    said = (
        ("assistant", "welcome"),
        ("user", "one"),
        ("user", "two"),
        ("assistant", "both"),
        ("system", "be brief"),
        ("user", "and?"),
    )
    await events_of(turn_of(chat_with(engine), conversation(*said), ReplyOptions("gemma2:2b")))
    assert [(message.role, message.content) for message in engine.requests[0].messages] == list(said)


async def test_the_model_reads_which_functions_were_called_and_what_they_returned() -> None:
    call = ToolCall("call_1", "weather", '{"town": "Kazan"}')
    messages = [
        StoredMessage("q", "weather?"),
        StoredMessage("a", "", role="assistant", tool_calls=(call,)),
        StoredMessage("t", "5 C", role="tool", tool_call_id="call_1", tool_name="weather"),
    ]
    engine = ScriptedEngine("cold")
    engine.features, engine.uses_tools = frozenset({"tools"}), True
    options = ReplyOptions("gemma2:2b", generation=GenerationOptions(tools=({"type": "function"},)))
    history = SessionHistory("c", turns_of(messages))
    await events_of(turn_of(chat_with(engine), history, options))
    assert engine.requests[0].messages == (
        ChatMessage("user", "weather?"),
        ChatMessage("assistant", "", (call,)),
        ChatMessage("tool", "5 C", (), "call_1", "weather"),
    )


async def test_a_call_of_a_function_is_an_event_and_no_answer() -> None:
    call = ToolCall("call_1", "weather", "{}")
    engine = ScriptedEngine((call,))
    turn = ask(chat_with(engine), SessionHistory("c"), "weather?")
    assert (await events_of(turn))[1:] == [ToolCalls((call,)), Finished("tool_calls")]
    assert (turn.tool_calls, turn.answer) == ((call,), None)


async def test_a_strict_conversation_is_read_whole_or_refused() -> None:
    said = [(role, "word " * 30) for _ in range(6) for role in ("user", "assistant")]
    engine = ScriptedEngine("yes", "yes")
    chat = chat_with(engine, num_ctx=600)
    turn = turn_of(chat, conversation(*said, ("user", "and?")), ReplyOptions("gemma2:2b"))
    await events_of(turn)
    assert turn.left_out_messages == 13 - len(engine.requests[0].messages) > 0
    with pytest.raises(ConversationTooLong):
        await events_of(turn_of(chat, conversation(*said, ("user", "and?")), ReplyOptions("gemma2:2b", strict=True)))
    # Where the message alone is too long it is no good to leave out older ones.
    with pytest.raises(MessageTooLong):
        await events_of(turn_of(chat, conversation(("user", "word " * 900)), ReplyOptions("gemma2:2b", strict=True)))
    short = turn_of(chat, conversation(*said[:2], ("user", "and?")), ReplyOptions("gemma2:2b", strict=True))
    await events_of(short)
    assert len(engine.requests[-1].messages) == 3
    assert short.left_out_messages == 0


@pytest.mark.parametrize(
    ("generation", "parameter"),
    [
        (GenerationOptions(stop=("x",)), "stop"),
        (GenerationOptions(seed=0), "seed"),
        (GenerationOptions(presence_penalty=1), "presence_penalty"),
        (GenerationOptions(frequency_penalty=1), "frequency_penalty"),
        (GenerationOptions(json=JsonFormat()), "json_object"),
        (GenerationOptions(json=JsonFormat({})), "json_schema"),
        (GenerationOptions(tools=({},)), "tools"),
        (GenerationOptions(tools=({},), tool_choice="required"), "tools"),
    ],
)
async def test_what_the_engine_cannot_honour_is_refused_before_it_is_asked(
    generation: GenerationOptions, parameter: str
) -> None:
    engine = ScriptedEngine("yes")
    chat = chat_with(engine)
    turn = chat.turn(SessionHistory("c"), StoredMessage("q", "hi"), "a", ReplyOptions("gemma2:2b", "", generation))
    with pytest.raises(Unsupported) as refused:
        await events_of(turn)
    assert refused.value.facts["parameter"] == parameter
    assert engine.requests == []


async def test_texts_are_embedded_in_a_slot_of_the_engine() -> None:
    engine = ScriptedEngine()
    chat = chat_with(engine)
    with pytest.raises(Unsupported):
        await chat.embed("gemma2:2b", ["a b"])
    engine.embeds = True
    await chat.catalog.everything(fresh=True)
    model, found = await chat.embed("gemma2:2b", ["a b", "c"])
    assert (model.name, found.vectors, found.prompt_tokens) == ("gemma2:2b", ((2.0, 3.0), (1.0, 1.0)), 3)
    assert chat.queue_of(engine).serving == 0


class Embedder(ScriptedEngine):
    """Has one model in memory, and takes as many seconds as there are texts."""

    now = 0.0

    async def embed(self, model: str, texts: Sequence[str], context_length: int) -> Embeddings:
        await self.go_on.wait()
        self.in_memory = {model}
        self.now += len(texts)
        return Embeddings(((1.0,),) * len(texts), 100 * len(texts))


@pytest.fixture
def embedder() -> Embedder:
    engine = Embedder("hello", models=["gemma2:2b", "nomic"])
    engine.only_embed, engine.in_memory = {"nomic"}, {"gemma2:2b"}
    return engine


async def test_who_waits_behind_vectors_is_told_how_long_by_what_they_took_before(embedder: Embedder) -> None:
    chat = chat_with(embedder, clock=lambda: embedder.now)
    told = []
    for _ in range(3):
        embedder.go_on.clear()
        embedding = asyncio.create_task(chat.embed("nomic", ["x" * 350] * 2))
        while not chat.serving:
            await asyncio.sleep(0)
        ticket = chat.queue_of(embedder).join()
        told.append(chat.queue_of(embedder).place(ticket).seconds_left)
        ticket.leave()
        embedder.go_on.set()
        await embedding
    # The first time the model was loaded too, which says nothing of the second.
    assert told == [None, None, pytest.approx(2.0)]


async def test_a_model_that_embeds_may_take_the_memory_of_what_was_held(embedder: Embedder) -> None:
    chat = chat_with(embedder)
    await events_of(ask(chat, SessionHistory("c"), "one two three"))
    await chat.embed("nomic", ["text"])
    await chat.catalog.find("gemma2:2b")
    assert chat.warmth_of(embedder).held("ollama/gemma2:2b", "c") is None


async def test_a_model_in_memory_beside_the_one_that_embeds_holds_what_it_held(embedder: Embedder) -> None:
    chat = chat_with(embedder)
    await events_of(ask(chat, SessionHistory("c"), "one two three"))
    for _ in range(2):
        await chat.embed("nomic", ["text"])
        embedder.in_memory = {"gemma2:2b", "nomic"}
    assert chat.warmth_of(embedder).held("ollama/gemma2:2b", "c") is not None


async def test_what_an_engine_has_unloaded_is_not_held_any_more() -> None:
    engine = ScriptedEngine("hello")
    engine.in_memory = {"gemma2:2b"}
    chat = chat_with(engine)
    await events_of(ask(chat, SessionHistory("c"), "one two three"))
    await chat.catalog.everything(fresh=True)
    assert chat.warmth_of(engine).held("ollama/gemma2:2b", "c") is not None
    engine.in_memory = set()
    await chat.catalog.everything(fresh=True)
    assert chat.warmth_of(engine).held("ollama/gemma2:2b", "c") is None


async def test_where_the_model_has_to_be_loaded_all_of_a_prompt_was_read() -> None:
    class Unloaded(ScriptedEngine):
        async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
            if self.in_memory == set():
                yield Loading()
            async with aclosing(super().complete(request)) as events:
                async for event in events:
                    yield event

    engine, history = Unloaded("hello", "again"), SessionHistory("c")
    chat = chat_with(engine)
    await events_of(ask(chat, history, "word " * 300))
    assert chat.speeds.of("ollama/gemma2:2b").prompt == pytest.approx(100)
    engine.in_memory = set()
    await events_of(ask(chat, history, "word " * 300))
    assert chat.speeds.as_dict()["ollama/gemma2:2b"]["prompt"] == pytest.approx([100, 100])
