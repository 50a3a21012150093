"""A reply that was cut off, and Continue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import Chat
from tests.fakes.words import reply_to
from tests.page.conftest import World
from tests.site import Program, fake_ollama, server

LONG = "!words 90"
WHOLE = "".join(reply_to(LONG).pieces)
_SPEEDUP = 2


@pytest.fixture(scope="module")
def short(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Program]]:
    """A server whose replies have forty tokens at most, and its Ollama."""
    folder = tmp_path_factory.mktemp("short")
    with (
        fake_ollama(folder, "--speedup", str(_SPEEDUP), "--load-seconds", "0") as ollama,
        server(folder, OLLAMA_HOST=ollama.url, MAX_TOKENS="40") as site,
    ):
        yield ollama, site


@pytest.fixture
def world(short: tuple[Program, Program], visit: Callable[..., Chat]) -> World:
    return World(*short, visit)


@pytest.fixture
def slow(world: World) -> Iterator[None]:
    """The model writes nine tokens a second: there is time to do something in the middle of a reply."""
    world.ollama.post("/_fake/speedup", {"speedup": 0.5})
    yield
    world.ollama.post("/_fake/speedup", {"speedup": _SPEEDUP})


def go_on(chat: Chat) -> None:
    chat.page.locator('[data-testid="continue"]:visible').last.click()


def words(chat: Chat) -> int:
    return len(chat.replies()[-1].split())


def test_a_reply_that_reached_its_length_goes_on_in_the_same_message(world: World, chat: Chat) -> None:
    chat.ask(LONG)
    assert words(chat) == 40
    note = chat.page.get_by_test_id("reply-note")
    expect(note).to_have_text(re.compile("longest length that is set. Continue goes on"))
    go_on(chat)
    chat.page.locator('[data-phase="writing"]').wait_for()
    chat.status("finished").get_by_text("last part").wait_for()
    assert words(chat) == 80
    assert len(chat.replies()) == 1
    assert world.ollama.get("/_fake/state")["requests"][-1]["messages"][-1]["role"] == "assistant"
    chat.reload()
    chat.status("finished")
    assert words(chat) == 80
    expect(chat.page.get_by_test_id("reply-status")).to_have_count(1)
    go_on(chat)
    chat.page.locator(".ai-message .prose").filter(has_text=WHOLE).wait_for()
    chat.status("finished")
    expect(chat.page.get_by_test_id("continue")).to_have_count(0)
    expect(note).to_have_count(0)
    assert chat.replies() == [WHOLE]
    chat.reload()
    chat.status("finished")
    assert chat.replies() == [WHOLE]
    chat.ask("!echo next")
    sent = world.ollama.get("/_fake/state")["requests"][-1]["messages"]
    assert [message["content"] for message in sent] == [LONG, WHOLE, "!echo next"]


@pytest.mark.usefixtures("slow")
def test_a_continuation_that_is_stopped_keeps_both_parts_and_goes_on_again(chat: Chat) -> None:
    chat.ask(LONG)
    go_on(chat)
    chat.page.locator('[data-phase="writing"]').wait_for()
    chat.page.locator("#stop-button").click()
    chat.status("stopped")
    stopped = words(chat)
    assert 40 < stopped < 80
    chat.reload()
    chat.status("stopped")
    assert words(chat) == stopped
    go_on(chat)
    chat.status("finished")
    assert chat.replies()[-1] == " ".join(WHOLE.split()[: stopped + 40])


@pytest.mark.usefixtures("slow")
def test_a_reload_in_the_middle_of_a_continuation_loses_nothing(chat: Chat) -> None:
    chat.ask(LONG)
    chat.page.wait_for_url("**/thread/*")
    go_on(chat)
    chat.page.locator('[data-phase="writing"]').wait_for()
    chat.reload()
    chat.status("finished").get_by_text("last part").wait_for()
    assert words(chat) == 80
    assert len(chat.replies()) == 1
    expect(chat.page.get_by_test_id("reply-status")).to_have_count(1)


def test_a_continuation_that_fails_leaves_what_there_was(world: World, chat: Chat) -> None:
    chat.ask(LONG)
    world.ollama.post("/_fake/script", {"replies": ["!500"]})
    go_on(chat)
    chat.page.get_by_text("something inside failed").first.wait_for()
    expect(chat.status("finished")).to_contain_text("40 tokens")
    assert words(chat) == 40
    world.ollama.post("/_fake/script", {"replies": ["!die"]})
    go_on(chat)
    chat.page.locator(".ai-message", has_text="stopped while it was working").wait_for()
    assert 40 < len(chat.replies()[0].split()) < 50
    go_on(chat)
    chat.status("finished")
    expect(chat.page.locator(".ai-message", has_text="stopped while it was working")).to_have_count(0)


@pytest.mark.usefixtures("slow")
def test_a_reply_that_was_stopped_goes_on_in_russian(world: World) -> None:
    chat = world.visit(world.server, locale="ru-RU")
    chat.say(LONG)
    chat.page.locator(".ai-message .prose").filter(has_text="the quick").wait_for()
    chat.page.locator("#stop-button").click()
    chat.status("stopped")
    button = chat.page.get_by_role("button", name="Продолжить")
    expect(button).to_be_visible()
    before = words(chat)
    button.click()
    chat.status("finished").get_by_text("последняя часть").wait_for()
    assert words(chat) == min(before + 40, 90)


def test_only_the_last_reply_offers_to_go_on(chat: Chat) -> None:
    chat.ask(LONG)
    chat.ask("!echo next")
    expect(chat.page.locator('[data-testid="continue"]:visible')).to_have_count(0)
