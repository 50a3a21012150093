"""The buttons under a reply, pressed at moments when a page does not expect it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.site import Program, fake_ollama, server
from tests.tab import Tab, Visitor, new_id, question

LONG = "!words 90"
# Of the one slot: it is taken until the reply is stopped.
ENDLESS = "!words 4000"


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with fake_ollama(tmp_path_factory.mktemp("ollama"), "--models", "gemma2:2b,phi3:latest", "--speedup", "4") as fake:
        yield fake


@pytest.fixture(scope="module")
def site(ollama: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with server(tmp_path_factory.mktemp("site"), OLLAMA_HOST=ollama.url, STOP_SECONDS="0") as program:
        yield program


@pytest.fixture
def ann(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        yield visitor


@contextmanager
def somebody_served(site: Program) -> Iterator[None]:
    with Visitor(site.url) as other, Tab(other) as tab:
        tab.send("client_message", question(ENDLESS, new_id()))
        tab.wait_for("stream_token")
        yield
        tab.send("stop")
        tab.wait_for("task_end")


def press(visitor: Visitor, tab: Tab, name: str, message_id: str) -> None:
    action = {"name": name, "payload": {"message_id": message_id}}
    visitor.call("POST", "/project/action", {"action": action, "sessionId": tab.session_id}).raise_for_status()


def choose(tab: Tab, **settings: Any) -> None:
    tab.wait_for("chat_settings")
    tab.send("chat_settings_change", settings)
    tab.wait_for("chat_settings")


def line(tab: Tab, phase: str) -> dict[str, Any]:
    """The props of the next line under a reply that is in a phase."""
    while True:
        [element] = tab.wait_for("element")
        if element["props"]["phase"] == phase:
            props: dict[str, Any] = element["props"]
            return props


def cut_off(visitor: Visitor, tab: Tab) -> tuple[str, dict[str, Any]]:
    """A reply that reached its length: the conversation's id, and the reply as it is stored."""
    tab.send("client_message", question(LONG, new_id()))
    [begun] = tab.wait_for("first_interaction")
    assert line(tab, "finished")["go_on"]
    tab.wait_for("task_end")
    return begun["thread_id"], visitor.thread(begun["thread_id"])["steps"][-1]


def events(tab: Tab, name: str) -> int:
    return sum(json.loads(packet[2:])[0] == name for packet in tab.told if packet.startswith("42"))


def test_who_waits_to_go_on_can_cancel_and_has_the_reply_as_it_was(site: Program, ann: Visitor) -> None:
    with Tab(ann) as tab:
        choose(tab, max_tokens=40)
        thread, reply = cut_off(ann, tab)
        before = ann.thread(thread)
        with somebody_served(site):
            press(ann, tab, "continue", reply["id"])
            assert line(tab, "waiting")["message_id"] == reply["id"]
            press(ann, tab, "cancel", reply["id"])
            shown = line(tab, "finished")
            tab.wait_for("task_end")
        assert shown == before["elements"][-1]["props"]
        assert ann.thread(thread) == before
        tab.leave()
    with Tab(ann, session_id=tab.session_id) as tab:  # its connection broke
        [again] = tab.wait_for("element")
        assert again["props"] == shown
        press(ann, tab, "continue", reply["id"])
        assert line(tab, "finished")["went_on"]


def test_a_model_that_could_not_go_on_is_not_named_as_who_wrote_the_reply(
    ollama: Program, site: Program, ann: Visitor
) -> None:
    with Tab(ann) as tab:
        choose(tab, max_tokens=40)
        thread, reply = cut_off(ann, tab)
        tab.send("chat_settings_change", {"model": "ollama/phi3:latest"})
        tab.wait_for("chat_settings")
        ollama.post("/_fake/script", {"replies": ["!500"]})
        press(ann, tab, "continue", reply["id"])
        [told] = tab.wait_for("toast")
        assert "something inside failed" in told["message"]
        tab.wait_for("task_end")
        after = ann.thread(thread)["steps"][-1]
        assert after["metadata"] == reply["metadata"]
        assert after["metadata"]["model"] == "ollama/gemma2:2b"
        press(ann, tab, "continue", reply["id"])
        assert line(tab, "finished")["went_on"]
        tab.wait_for("task_end")
        assert ann.thread(thread)["steps"][-1]["metadata"]["model"] == "ollama/phi3:latest"


def test_a_button_that_is_pressed_twice_does_not_take_stop_away(site: Program, ann: Visitor) -> None:
    with Tab(ann) as tab:
        choose(tab, max_tokens=40)
        _, reply = cut_off(ann, tab)
        with somebody_served(site):
            press(ann, tab, "retry", reply["id"])
            line(tab, "waiting")
            ended = events(tab, "task_end")
            press(ann, tab, "retry", reply["id"])
            [told] = tab.wait_for("toast")
            assert "still being answered" in told["message"]
            tab.listen(0.3)
            assert events(tab, "task_end") == ended
            tab.send("stop")
            tab.wait_for("task_end")


def test_a_page_that_is_loaded_anew_while_it_waits_is_told_how_long_it_has_waited(site: Program, ann: Visitor) -> None:
    with somebody_served(site):
        with Tab(ann) as tab:
            tab.send("client_message", question("!echo hello", new_id()))
            [begun] = tab.wait_for("first_interaction")
            assert line(tab, "waiting")["passed"] < 1
            tab.listen(1)
        with Tab(ann, thread_id=begun["thread_id"]) as tab:
            tab.wait_for("resume_thread")
            shown = line(tab, "waiting")
            assert 1 < shown["passed"] < 10
            press(ann, tab, "cancel", shown["message_id"])
            tab.wait_for("task_end")


def test_a_thumb_stays_under_a_reply_that_goes_on_while_the_page_is_loaded_anew(site: Program, ann: Visitor) -> None:
    with Tab(ann) as tab:
        choose(tab, max_tokens=40)
        thread, reply = cut_off(ann, tab)
        thumb = {"feedback": {"forId": f"run-{reply['id']}", "value": 1}, "sessionId": tab.session_id}
        ann.call("PUT", "/feedback", thumb).raise_for_status()
        with somebody_served(site):
            press(ann, tab, "continue", reply["id"])
            line(tab, "waiting")
            tab.leave()
            with Tab(ann, thread_id=thread) as again:
                again.wait_for("resume_thread")
                [run] = again.wait_for("new_message")
                assert run["id"] == f"run-{reply['id']}"
                assert run["feedback"]["value"] == 1
                press(ann, again, "cancel", reply["id"])
                again.wait_for("task_end")


def test_there_are_no_thumbs_under_what_the_page_says_itself(site: Program, ann: Visitor) -> None:
    with somebody_served(site), Tab(ann) as tab:
        tab.send("client_message", question("!echo hello", new_id()))
        shown = line(tab, "waiting")
        press(ann, tab, "cancel", shown["message_id"])
        [gone] = tab.wait_for("delete_message")
        assert gone["id"] == f"run-{shown['message_id']}"
        [notice] = tab.wait_for("new_message")
        assert (notice["id"], notice["parentId"]) == (shown["message_id"], None)
        tab.wait_for("task_end")
