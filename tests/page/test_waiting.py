"""The queue as visitors see it: their place, how long it will take, the way out of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import PATIENCE, Chat
from tests.page.conftest import World
from tests.site import fake_ollama, server

Visit = Callable[..., Chat]


@pytest.fixture
def slow(visit: Visit, tmp_path: Path) -> Iterator[World]:
    """One slot, at the speed of a small server."""
    with (
        fake_ollama(tmp_path, "--load-seconds", "0", "--prompt-speed", "1000") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, STOP_SECONDS="0") as site,
    ):
        yield World(ollama, site, visit)


@contextmanager
def somebody_served(world: World) -> Iterator[Chat]:
    first = world.visit(world.server)
    first.say("!words 2000")
    first.wait_for("the quick brown")
    yield first


def test_who_waits_sees_place_and_time_and_can_cancel_and_try_again(slow: World) -> None:
    with somebody_served(slow) as first:
        second = slow.visit(slow.server)
        second.say("!echo at last")
        line = second.status("waiting")
        expect(line).to_contain_text(re.compile(r"1 person before you, about \d+ s"))
        cancel = line.get_by_role("button", name="Cancel")
        cancel.focus()
        second.page.keyboard.press("Enter")
        expect(second.page.get_by_text("Stopped before the reply began.")).to_be_visible(timeout=PATIENCE)
        expect(second.page.get_by_test_id("cancel")).to_have_count(0)
        expect(second.page.locator(".positive-feedback-off")).to_have_count(0)
        assert slow.server.get("/health")["process"]["waiting"] == 0
        second.retry()
        second.status("waiting")
        first.page.locator("#stop-button").click()
        second.page.locator(".ai-message .prose", has_text="at last").wait_for()
        expect(second.page.get_by_text("Stopped before the reply began.")).to_have_count(0)


def test_the_old_reply_offers_nothing_while_another_one_is_awaited(slow: World) -> None:
    second = slow.visit(slow.server)
    second.ask("!echo the old one")
    buttons = second.page.locator('[data-testid="retry"]:visible')
    with somebody_served(slow):
        second.retry()
        second.status("waiting").get_by_role("button", name="Cancel").wait_for()
        expect(second.page.get_by_test_id("retry")).to_have_count(1)
        expect(buttons).to_have_count(0)
        second.page.get_by_test_id("cancel").click()
        expect(second.page.get_by_text("Stopped before the reply began.")).to_be_visible(timeout=PATIENCE)
        expect(buttons).to_have_count(2)
        expect(second.page.locator(".ai-message", has_text="the old one")).to_be_visible()


def test_the_button_keeps_the_keyboards_focus_when_the_place_changes(slow: World) -> None:
    with somebody_served(slow) as first:
        second, third = slow.visit(slow.server), slow.visit(slow.server)
        second.say("!words 2000")
        second.status("waiting")
        third.say("!echo at last")
        expect(third.status("waiting")).to_contain_text("2 people before you")
        third.page.get_by_test_id("cancel").focus()
        first.page.locator("#stop-button").click()
        expect(third.status("waiting")).to_contain_text("1 person before you")
        expect(third.page.get_by_test_id("cancel")).to_be_focused()


def test_a_second_message_of_the_same_visitor_waits_in_place_of_the_first(slow: World) -> None:
    with somebody_served(slow):
        second = slow.visit(slow.server)
        second.say("!echo one")
        second.status("waiting")
        other = second.page.context.new_page()
        other.goto(slow.server.url)
        tab = Chat(other)
        tab.say("!echo from another tab")
        expect(other.get_by_text("A message of yours is waiting already")).to_be_visible(timeout=PATIENCE)
        expect(other.get_by_test_id("retry")).to_be_visible()
        assert slow.server.get("/health")["process"]["waiting"] == 1


def test_a_phone_has_room_for_the_line_and_the_button(slow: World) -> None:
    with somebody_served(slow):
        phone = slow.visit(
            slow.server, locale="ru-RU", viewport={"width": 360, "height": 720}, has_touch=True, is_mobile=True
        )
        phone.say("!echo наконец")
        line = phone.status("waiting")
        expect(line).to_contain_text(re.compile(r"Перед вами 1 человек, ещё около \d+ с"))
        button = line.get_by_role("button", name="Отменить")
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
        assert box["x"] + box["width"] <= 360
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
        button.tap()
        expect(phone.page.get_by_text("Остановлено до начала ответа.")).to_be_visible(timeout=PATIENCE)
