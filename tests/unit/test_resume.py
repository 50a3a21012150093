"""A conversation that is taken up again: after a restart, by another page, over a connection that broke."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.site import Program, fake_ollama, server
from tests.tab import Tab, Visitor, question

CHOSEN = {
    "model": "ollama/qwen3:0.6b",
    "temperature": 0.55,
    "top_p": 0.75,
    "max_tokens": 64,
    "system_prompt": "Be brief, be kind.",
    "think": True,
}
OTHERS = {"model": "auto", "temperature": 0.1, "top_p": 0.5, "max_tokens": 100, "system_prompt": "", "think": False}


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("ollama")
    with fake_ollama(folder, "--models", "gemma2:2b,phi3:latest", "--thinker", "qwen3:0.6b", "--speedup", "20") as fake:
        yield fake


@pytest.fixture(scope="module")
def site(ollama: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("site")
    with server(folder, OLLAMA_HOST=ollama.url, MAX_MESSAGE_BYTES="4096", MODELS_CACHE_SECONDS="0") as program:
        yield program


@pytest.fixture
def ann(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        yield visitor


def told(tab: Tab, event: str) -> list[Any]:
    """The first argument of each event of that name that the tab has been told."""
    packets = [json.loads(packet[2:]) for packet in tab.told if packet.startswith("42")]
    return [arguments[0] for name, *arguments in packets if name == event]


def thread_of(tab: Tab) -> str:
    return str(told(tab, "first_interaction")[-1]["thread_id"])


def panel(tab: Tab) -> dict[str, Any]:
    """The settings as the panel shows them."""
    return {widget["id"]: widget["initial"] for widget in told(tab, "chat_settings")[-1]}


def ask_for_settings(tab: Tab, settings: dict[str, Any]) -> None:
    tab.send("chat_settings_change", settings)
    shown: dict[str, Any] = {}
    while not settings.items() <= shown.items():  # the first panel may still be on its way
        [panel] = tab.wait_for("chat_settings")
        shown = {setting["id"]: setting["initial"] for setting in panel}


def next_message(tab: Tab) -> dict[str, Any]:
    """The next message that the page is sent; what is around it, for Chainlit to show thumbs, is none."""
    while True:
        [step] = tab.wait_for("new_message")
        if step["type"] != "run":
            found: dict[str, Any] = step
            return found


def last_request(ollama: Program) -> dict[str, Any]:
    found: dict[str, Any] = ollama.get("/_fake/state")["requests"][-1]
    return found


def talk(tab: Tab) -> None:
    """A conversation that is longer than the window, some of it reasoned about, some of it failed."""
    ask_for_settings(tab, CHOSEN)
    for n in range(14):
        tab.ask(("!think 30", "!words 40", "Tell me of it, and do not spare me", "!500", "!nodelay 60")[n % 5])


def test_after_a_restart_the_prompt_is_what_it_would_have_been_without(ollama: Program, tmp_path: Path) -> None:
    requests = []
    for restarts in (False, True):
        folder = tmp_path / str(restarts)
        folder.mkdir()
        room = {"OLLAMA_HOST": ollama.url, "NUM_CTX": "512", "QWEN_MODEL": ""}
        with server(folder, **room) as site, Visitor(site.url) as visitor, Tab(visitor) as tab:
            talk(tab)
            thread = thread_of(tab)
            if not restarts:
                tab.ask("and now?")
            cookies = dict(visitor.http.cookies.items())
            with Tab(visitor) as another:  # a new chat's settings are not this one's
                ask_for_settings(another, OTHERS)
        if restarts:
            with server(folder, **room) as site, closing(Visitor(site.url, known=False)) as visitor:
                visitor.http.cookies.update(cookies)
                with Tab(visitor, thread_id=thread) as tab:
                    tab.wait_for("resume_thread")
                    assert panel(tab) == CHOSEN
                    tab.ask("and now?")
        requests.append(last_request(ollama))
    assert json.dumps(requests[1]) == json.dumps(requests[0])
    contents = [message["content"] for message in requests[1]["messages"]]
    assert contents[0] == CHOSEN["system_prompt"]
    assert contents[-1] == "and now?"
    assert len(contents) < 2 * 11  # of 11 turns with an answer the first have left the window
    assert requests[1]["think"] is True


def test_settings_belong_to_their_conversation_and_are_a_new_ones_default(ann: Visitor, ollama: Program) -> None:
    with Tab(ann) as tab:
        ask_for_settings(tab, CHOSEN)
        tab.ask("!echo one")
        first = thread_of(tab)
    with Tab(ann) as tab:
        tab.wait_for("chat_settings")
        assert panel(tab) == CHOSEN
        ask_for_settings(tab, OTHERS)
        tab.ask("!echo two")
    with Tab(ann, thread_id=first) as tab:
        tab.wait_for("resume_thread")
        assert panel(tab) == CHOSEN
        ask_for_settings(tab, {"temperature": 0.9})  # without a message
    with Tab(ann) as tab:
        tab.wait_for("chat_settings")
        assert panel(tab) == CHOSEN | {"temperature": 0.9}
    with Tab(ann, thread_id=first) as tab:
        tab.wait_for("resume_thread")
        assert panel(tab)["temperature"] == 0.9
        tab.ask("!echo three")
    asked = last_request(ollama)
    assert (asked["model"], asked["options"]["temperature"], asked["options"]["num_predict"]) == ("qwen3:0.6b", 0.9, 64)


def test_a_page_that_ends_does_not_bring_old_settings_back(ann: Visitor) -> None:
    """Chainlit stores what it read when the page was opened once more at the page's end."""
    with Tab(ann) as tab:
        ask_for_settings(tab, CHOSEN)
        tab.ask("!echo one")
        thread = thread_of(tab)
    with Tab(ann, thread_id=thread) as tab:
        tab.wait_for("resume_thread")
        ask_for_settings(tab, {"temperature": 0.15})
        tab.leave(for_good=True)
    with Tab(ann, thread_id=thread) as tab:
        tab.wait_for("resume_thread")
        assert panel(tab)["temperature"] == 0.15


def test_a_conversation_whose_model_is_gone_says_so(ann: Visitor, ollama: Program) -> None:
    with Tab(ann) as tab:
        ask_for_settings(tab, {"model": "ollama/phi3:latest"})
        tab.ask("!echo one")
        thread = thread_of(tab)
    ollama.post("/_fake/models", {"models": ["gemma2:2b", "qwen3:0.6b"]})
    try:
        with Tab(ann, thread_id=thread) as tab:
            tab.wait_for("resume_thread")
            model = next(widget for widget in told(tab, "chat_settings")[-1] if widget["id"] == "model")
            labels = {item["value"]: item["label"] for item in model["items"]}
            tab.ask("!echo two")
            said = told(tab, "new_message")[-1]
    finally:
        ollama.post("/_fake/models", {"models": ["gemma2:2b", "phi3:latest", "qwen3:0.6b"]})
    assert model["initial"] == "ollama/phi3:latest"
    assert "not here now" in labels["ollama/phi3:latest"]
    assert said["isError"]
    assert "phi3:latest" in said["output"]
    assert "gemma2:2b" in said["output"]


def test_a_connection_that_broke_in_mid_reply_comes_back_with_stop_and_the_whole_text(ann: Visitor) -> None:
    with Tab(ann) as tab:
        tab.send("client_message", question("!words 600", "0b0e8f9a-3b1c-4b60-9d5a-2f6a2c1d0e01"))
        tab.wait_for("stream_start")
        tab.wait_for("stream_token")
        tab.leave()
        with Tab(ann, session_id=tab.session_id) as again:
            again.wait_for("task_start")
            sofar = next_message(again)
            assert sofar["streaming"]
            assert sofar["output"].startswith("the quick brown")
            text = sofar["output"]
            while len(text.split()) < 300:
                [piece] = again.wait_for("stream_token")
                text += piece["token"]
            assert whole(text)
            again.send("stop")
            again.wait_for("task_end")
            assert told(again, "new_message")[-1]["output"].startswith(text)


def test_a_reply_that_ended_while_the_connection_was_broken_is_shown(ann: Visitor) -> None:
    with Tab(ann) as tab:
        tab.send("client_message", question("!words 40", "0b0e8f9a-3b1c-4b60-9d5a-2f6a2c1d0e02"))
        [thread] = tab.wait_for("first_interaction")
        tab.leave()
        while len(ann.thread(thread["thread_id"])["elements"]) < 1:
            pass
        with Tab(ann, session_id=tab.session_id) as again:
            reply = next_message(again)
            [element] = again.wait_for("element")
    assert len(reply["output"].split()) == 40
    assert not reply["streaming"]
    assert element["props"]["phase"] == "finished"


def whole(text: str) -> bool:
    """Whether a beginning of `!words N` lacks nothing."""
    words = "the quick brown fox jumps over a lazy dog and then it rests by the river".split()  # noqa: SIM905
    said = text.split()[:-1]
    return said == [words[n % len(words)] for n in range(len(said))]


def test_each_of_several_reloads_in_mid_reply_goes_on_with_it(ann: Visitor) -> None:
    with Tab(ann) as tab:
        tab.send("client_message", question("!words 900", "0b0e8f9a-3b1c-4b60-9d5a-2f6a2c1d0e03"))
        [thread] = tab.wait_for("first_interaction")
        tab.wait_for("stream_token")
    text = ""
    for _ in range(3):
        with Tab(ann, thread_id=thread["thread_id"]) as page:
            page.wait_for("resume_thread")
            sofar = next_message(page)
            assert len(sofar["output"]) >= len(text)
            text = sofar["output"]
            for _ in range(3):
                [piece] = page.wait_for("stream_token")
                text += piece["token"]
            assert whole(text)
            assert told(page, "task_end") == [{}]  # Chainlit's, when the page came
            assert told(page, "task_start")
    with Tab(ann, thread_id=thread["thread_id"]) as page:
        next_message(page)
        page.send("stop")
        page.wait_for("task_end")
    steps = ann.thread(thread["thread_id"])["steps"]
    assert [step["type"] for step in steps] == ["user_message", "assistant_message"]
    assert steps[1]["output"].startswith(text)


@pytest.mark.parametrize("words", ["too large " * 500, "x " * 900], ids=["bytes", "window"])
def test_an_edit_that_is_refused_changes_nothing(ollama: Program, tmp_path: Path, words: str) -> None:
    with (
        server(tmp_path, OLLAMA_HOST=ollama.url, MAX_MESSAGE_BYTES="4096", NUM_CTX="512") as site,
        Visitor(site.url) as visitor,
        Tab(visitor) as tab,
    ):
        first = tab.ask("!echo one")
        tab.ask("!echo two")
        before = visitor.thread(thread_of(tab))
        tab.send("edit_message", question(words, first))
        tab.wait_until_answered()
        [problem] = told(tab, "toast")
        assert problem["type"] == "error"
        assert "Shorten it" in problem["message"]
        assert told(tab, "delete_message") == []
        assert told(tab, "update_message")[-1]["output"] == "!echo one"
        assert visitor.thread(thread_of(tab))["steps"] == before["steps"]
        tab.ask("!echo three")
        contents = [message["content"] for message in last_request(ollama)["messages"]]
        assert contents == ["!echo one", "one", "!echo two", "two", "!echo three"]
        tab.send("edit_message", question("!echo other", first))
        tab.wait_until_answered()
        assert [step["output"] for step in visitor.thread(thread_of(tab))["steps"]] == ["!echo other", "other"]
        tab.ask("!echo four")
        contents = [message["content"] for message in last_request(ollama)["messages"]]
        assert contents == ["!echo other", "other", "!echo four"]


def test_a_message_that_was_refused_can_be_edited_and_what_came_after_goes(ann: Visitor, ollama: Program) -> None:
    with Tab(ann) as tab:
        refused = tab.ask("too large " * 500)
        tab.ask("!echo after")
        tab.send("edit_message", question("!echo short", refused))
        tab.wait_until_answered()
        tab.ask("!echo end")
    contents = [message["content"] for message in last_request(ollama)["messages"]]
    assert contents == ["!echo short", "short", "!echo end"]


def test_a_system_prompt_that_fills_the_context_is_told_as_that(ollama: Program, tmp_path: Path) -> None:
    with (
        server(tmp_path, OLLAMA_HOST=ollama.url, NUM_CTX="512") as site,
        Visitor(site.url) as visitor,
        Tab(visitor) as tab,
    ):
        ask_for_settings(tab, {"system_prompt": "Be kind. " * 300})
        tab.ask("hello there")
        assert told(tab, "new_message")[-1]["output"].startswith("The system prompt has about")
