"""When an open page has something read ahead, and when that ends: a real server, and tabs without a browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.site import Program, fake_ollama, server
from tests.tab import PATIENCE, Tab, Visitor, new_id

LONG = " ".join(f"w{n}" for n in range(1500))
STEPS = 12  # about; of 128 tokens each


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with fake_ollama(tmp_path_factory.mktemp("ollama"), "--speedup", "5") as fake:
        yield fake


@pytest.fixture(scope="module")
def site(ollama: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("site")
    with server(folder, OLLAMA_HOST=ollama.url, READ_AHEAD_STEP="128") as program:
        yield program


@pytest.fixture
def ann(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        yield visitor


def ahead(ollama: Program, system: str) -> list[dict[str, Any]]:
    """What was asked only to be read, with a system prompt."""
    found = [body for body in ollama.get("/_fake/state")["requests"] if body.get("options", {}).get("num_predict") == 1]
    return [body for body in found if body["messages"][0]["content"] == system]


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def idle(ollama: Program) -> bool:
    state = ollama.get("/_fake/state")
    return not state["busy"] and not state["waiting"]


def being_read(ollama: Program, tab: Tab) -> str:
    """A conversation of the tab's that is being read anew, because of its new system prompt; returns that."""
    ollama.post("/_fake/script", {"replies": ["!nodelay 5"]})
    tab.ask(LONG)
    system = f"Be kind, {new_id()}."
    tab.send("chat_settings_change", {"model": "auto", "system_prompt": system})
    wait_for(lambda: len(ahead(ollama, system)) >= 3)
    return system


def test_another_system_prompt_has_the_conversation_read_anew(ollama: Program, site: Program, ann: Visitor) -> None:
    tab = Tab(ann)
    system = being_read(ollama, tab)
    wait_for(lambda: len(ahead(ollama, system)[-1]["messages"]) == 4)
    wait_for(lambda: idle(ollama))
    steps = ahead(ollama, system)
    assert len(steps) == pytest.approx(STEPS, abs=2)
    before = ollama.get("/_fake/state")["tokens_read"]
    tab.ask("!nodelay 3")
    assert ollama.get("/_fake/state")["tokens_read"] - before < 30
    tab.leave()


@pytest.mark.parametrize("how", ["left", "left for good", "deleted", "all deleted"])
def test_it_ends_when_the_page_or_the_conversation_is_gone(
    ollama: Program, site: Program, ann: Visitor, how: str
) -> None:
    tab, before = Tab(ann), site.text().count("given up")
    system = being_read(ollama, tab)
    if how == "deleted":
        (thread,) = ann.http.post("/project/threads", json={"pagination": {"first": 5}, "filter": {}}).json()["data"]
        assert ann.http.request("DELETE", "/project/thread", json={"threadId": thread["id"]}).status_code == 200
    elif how == "all deleted":
        ann.http.delete("/api/me/data").raise_for_status()
    else:
        tab.leave(for_good=how == "left for good")
    wait_for(lambda: site.text().count("given up") > before)
    wait_for(lambda: idle(ollama))
    assert len(ahead(ollama, system)) < STEPS - 2
    tab.leave()


def test_a_message_of_another_visitor_comes_first_and_then_it_goes_on(
    ollama: Program, site: Program, ann: Visitor
) -> None:
    tab = Tab(ann)
    system = being_read(ollama, tab)
    with Visitor(site.url) as bob:
        other = Tab(bob)
        other.ask("!nodelay 3")
        assert "the quick brown" in "\n".join(other.told)
        assert len(ahead(ollama, system)) < STEPS - 2
        wait_for(lambda: len(ahead(ollama, system)[-1]["messages"]) == 4)
        other.leave()
    tab.leave()
