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
