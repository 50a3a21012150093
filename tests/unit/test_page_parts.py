"""The parts of the page that need no browser: gathering text, preferences, a stored thread as a conversation."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from chainlit.context import init_ws_context
from chainlit.input_widget import Select
from chainlit.session import WebsocketSession
from chainlit.step import StepDict
from chainlit.types import ThreadDict
from chainlit.user import User
from hypothesis import given
from hypothesis import strategies as st

from app.chat import Chat
from app.engines.base import ModelInfo
from app.engines.catalog import Catalog
from app.errors import LANGUAGES
from app.page.callbacks import Page
from app.page.forgetful import ForgetfulStore
from app.page.preferences import AUTOMATIC, Preferences, model_label, widgets
from app.page.reply import ReplyView
from app.page.status import StatusLine
from app.page.steps import answer_step, conversation_of
from app.page.stream import GatheredStream
from app.page.texts import language_of, starters, text

GEMMA = ModelInfo("ollama", "gemma2:2b", size=1_629_276_160)
THINKER = ModelInfo("ollama", "qwen3:0.6b", size=522_000_000, can_think=True)


async def test_the_first_piece_goes_at_once_and_the_others_are_gathered() -> None:
    sent: list[str] = []

    async def send(piece: str) -> None:
        sent.append(piece)

    stream = GatheredStream(send, interval=60)
    for word in ("one ", "two ", "three "):
        await stream.add(word)
    assert sent == ["one "]
    await stream.end()
    assert sent == ["one ", "two three "]


async def test_what_is_gathered_goes_by_itself_when_the_time_has_come() -> None:
    sent: asyncio.Queue[str] = asyncio.Queue()
    stream = GatheredStream(sent.put, interval=0.01)
    await stream.add("one ")
    await stream.add("two ")
    assert [await sent.get(), await sent.get()] == ["one ", "two "]


@given(st.lists(st.text(min_size=1, max_size=5), max_size=30), st.integers(0, 4))
def test_no_piece_is_lost_or_overtaken_however_slow_the_browser_is(pieces: list[str], slowness: int) -> None:
    async def play() -> str:
        sent: list[str] = []

        async def send(piece: str) -> None:
            for _ in range(slowness):
                await asyncio.sleep(0)
            sent.append(piece)

        stream = GatheredStream(send, interval=0)
        for piece in pieces:
            await stream.add(piece)
        await stream.end()
        return "".join(sent)

    assert asyncio.run(play()) == "".join(pieces)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 7), ("temperature", "warm"), ("max_tokens", 0), ("max_tokens", 10**9), ("top_p", float("nan"))],
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_setting_out_of_range_is_told_and_the_old_value_stays(name: str, value: object, language: str) -> None:
    before = Preferences()
    after, problems = before.changed({name: value, "system_prompt": "Be brief."}, language)  # type: ignore[arg-type]
    assert getattr(after, name) == getattr(before, name)
    assert after.system_prompt == "Be brief."
    assert len(problems) == 1
    assert str(value) in problems[0]


def test_a_system_prompt_that_is_too_long_is_told_with_both_numbers() -> None:
    _, problems = Preferences().changed({"system_prompt": "x" * 9000}, "en")
    assert "9,000" in problems[0]
    assert "8,000" in problems[0]


def test_what_a_browser_sends_may_be_anything() -> None:
    after, _ = Preferences().changed({"model": 7, "think": "yes", "system_prompt": None, "hack": 1}, "en")
    assert after == Preferences()


def test_preferences_survive_being_stored() -> None:
    chosen = Preferences("ollama/phi3", 0.5, 256, 0.8, "Be kind.", True)
    assert Preferences().changed(chosen.as_dict(), "en") == (chosen, [])


def test_automatic_follows_the_default_model_and_a_choice_does_not() -> None:
    assert Preferences().options("ollama/gemma2:2b").model == "ollama/gemma2:2b"
    assert Preferences("vllm/x").options("ollama/gemma2:2b").model == "vllm/x"


def test_the_widgets_show_every_model_and_thinking_only_where_one_can() -> None:
    shown = {widget.id: widget for widget in widgets(Preferences(), [GEMMA], GEMMA, "en")}
    assert shown["model"].items == {
        "Automatic (gemma2:2b)": AUTOMATIC,
        "gemma2:2b · Ollama · 1.6 GB": "ollama/gemma2:2b",
    }
    assert "think" not in shown
    assert "think" in {widget.id for widget in widgets(Preferences(), [GEMMA, THINKER], GEMMA, "ru")}
    assert model_label(THINKER) == "qwen3:0.6b · Ollama · 522 MB"


def test_a_model_that_is_gone_is_shown_as_such_and_stays_chosen() -> None:
    shown = widgets(Preferences("ollama/gone"), [GEMMA], GEMMA, "en")[0]
    assert isinstance(shown, Select)
    assert shown.initial == "ollama/gone"
    assert (shown.items or {})["ollama/gone (not here now)"] == "ollama/gone"


def test_a_stored_thread_becomes_the_models_conversation_again() -> None:
    def step(number: str, kind: str, words: str, **more: object) -> dict[str, object]:
        return {"id": number, "type": kind, "output": words, "metadata": {}, **more}

    steps = [
        step("q1", "user_message", "one", metadata={"tokens": {"m": 5}}),
        step("r1", "llm", "thoughts"),
        step("a1", "assistant_message", "first", metadata={"tokens": {"m": 9}, "left_out": 3}),
        step("q2", "user_message", "two"),
        step("e2", "assistant_message", "Ollama does not answer.", isError=True, metadata={"notice": True}),
    ]
    history, shown = conversation_of("t", steps)
    turns = list(history)
    assert [turn.question.text for turn in turns] == ["one", "two"]
    assert turns[0].question.tokens == {"m": 5}
    assert turns[0].answer is not None
    assert (turns[0].answer.text, turns[0].answer.tokens) == ("first", {"m": 9})
    assert turns[1].answer is None
    assert history.seen_left_out == 3
    assert [(turn.question_id, turn.replies) for turn in shown] == [("q1", ["r1", "a1"]), ("q2", ["e2"])]


@pytest.mark.parametrize(
    ("tag", "language"), [("ru-RU", "ru"), ("ru", "ru"), ("en-GB", "en"), ("de", "en"), (None, "en"), ("", "en")]
)
def test_the_page_speaks_the_browsers_language_or_english(tag: str | None, language: str) -> None:
    assert language_of(tag) == language


def test_every_text_stands_in_both_languages() -> None:
    from app.page.texts import _TEXTS

    assert _TEXTS["en"].keys() == _TEXTS["ru"].keys()
    for guide in (False, True):
        assert len(starters("en", guide=guide)) == len(starters("ru", guide=guide)) == 4
    assert text("ru", "left_window", count=4).endswith("(4).")


def test_what_is_to_be_known_of_a_reply_stands_under_it_and_not_again_under_why_it_broke_off() -> None:
    turn: Any = SimpleNamespace(
        answer_id="a",
        model=GEMMA,
        begun=SimpleNamespace(),
        came="more",
        can_go_on=True,
        newly_left_out=True,
        left_out=2,
        left_out_messages=3,  # one of the questions had no answer
        finish_reason=None,
        fallback_from=THINKER,
        metrics=None,
        error=None,
    )
    line = StatusLine(turn, "t", "en", None)
    reply, notice = line.final("failed", retry=False), line.final("failed", retry=True, is_reply=False)
    assert [note[-4:] for note in reply["notes"]] == ["(3).", "did."]
    assert (reply["went_on"], reply["go_on"]) == (True, True)
    assert (notice["notes"], notice["went_on"], notice["go_on"]) == ([], False, False)


class SlowStore(ForgetfulStore):
    """Where what visitors have set is read when the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def load_preferences(self, identifier: str) -> dict[str, Any]:
        await self.gate.wait()
        return {"temperature": 0.5}


async def test_what_comes_while_a_visitors_settings_are_read_waits_for_them() -> None:
    store, session = SlowStore(), SimpleNamespace(user=User("ann"), language="en-US", thread_id="t")
    page = Page(Chat(Catalog([])), None, store, Preferences(), 60)  # type: ignore[arg-type]
    # The page has been opened, and at once another setting is chosen there.
    opened, changed = (asyncio.create_task(page._visit(session)) for _ in range(2))  # type: ignore[arg-type]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not changed.done()
    store.gate.set()
    visit = await changed
    assert visit is await opened
    assert visit.preferences.temperature == 0.5


class ReadTwice(ForgetfulStore):
    """Has a conversation in which a reply has been stored since it was read."""

    def __init__(self, thread: ThreadDict) -> None:
        self._thread = thread

    @property
    def data_layer(self) -> Any:
        return self

    async def get_thread(self, thread_id: str) -> ThreadDict:
        return self._thread


def silent_session(thread_id: str) -> WebsocketSession:
    """Of a page that is told nothing."""
    silence: Any = AsyncMock()
    name = str(uuid4())
    return WebsocketSession(
        id=name,
        socket_id=name,
        emit=silence,
        emit_call=silence,
        user_env={},
        client_type="webapp",
        user=User("ann"),
        thread_id=thread_id,
        environ={},
    )


async def test_a_page_that_is_opened_just_as_a_reply_ends_has_that_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id = str(uuid4())

    def thread(*steps: StepDict) -> ThreadDict:
        return {"id": thread_id, "steps": list(steps), "elements": [], "metadata": {}}  # type: ignore[typeddict-item]

    asked = answer_step(thread_id, "q", "ann") | {"type": "user_message", "output": "Who are you?"}
    reply = answer_step(thread_id, "a", "model") | {"output": "A model."}
    page = Page(Chat(Catalog([])), None, ReadTwice(thread(asked, reply)), Preferences(), 60)  # type: ignore[arg-type]
    monkeypatch.setattr(page, "_show_state", AsyncMock())
    before, after = silent_session(thread_id), silent_session(thread_id)
    told: Any = {"thread_id": thread_id, "author": "model", "language": "en", "on_first_text": AsyncMock()}
    turn = SimpleNamespace(answer_id="a", begun=None, text="", reasoning="")
    view = ReplyView(AsyncMock(), ForgetfulStore(), turn, **told)  # type: ignore[arg-type]
    view._message["output"], view.step_ids = "A model.", ["a"]
    (await page._visit(before))._view = view
    read = thread(asked)
    init_ws_context(after)
    await page._on_chat_resume(read)
    assert [step["output"] for step in read["steps"] if step["type"] == "assistant_message"] == ["A model."]
    history = (await page._visit(after)).history
    for session in (before, after):
        await session.delete()
    assert [turn.answer and turn.answer.text for turn in history] == ["A model."]


class SlowPage:
    """A page that takes its time for what is around a reply; it remembers the steps and pieces that it got."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.texts: list[str] = []

    async def send_step(self, step: StepDict) -> None:
        if step["type"] == "run":
            await self.gate.wait()
        else:
            self.texts.append(step["output"])

    async def send_token(self, step_id: str, token: str) -> None:
        if self.texts:  # before it has the message it can show no piece of it
            self.texts.append(token)


async def test_a_page_that_comes_back_in_mid_reply_lacks_no_piece_of_what_came_meanwhile() -> None:
    before, after = SlowPage(), SlowPage()
    before.gate.set()
    turn = SimpleNamespace(answer_id="a", metrics=None, text="", reasoning="", begun=None, came="")
    told: Any = {"thread_id": "t", "author": "model", "language": "en", "on_first_text": before.gate.wait}
    view = ReplyView(before, ForgetfulStore(), turn, **told)  # type: ignore[arg-type]
    view._message["output"], view._shown, view._began = "one ", True, True
    coming = asyncio.create_task(view.move_to(after))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await view._send_answer("two ")
    after.gate.set()
    await coming
    await view._send_answer("three")
    assert "".join(after.texts) == "one two three"
