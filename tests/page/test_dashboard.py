"""The operator's page, as a browser shows it."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.storage.database import Database
from app.storage.requests import Requests
from tests.browser import PATIENCE, Chat
from tests.log_rows import busy_week
from tests.postgres import Postgres, wait_for
from tests.site import Program, clean_environment, fake_ollama, server
from tests.tab import PASSWORD
from tests.windows import fits, my_data

PHONE = {"width": 360, "height": 740}
CHARTS = 9
# What a finger can press without a miss, in pixels.
FINGER = 44

Open = Callable[..., Page]


async def logged(folder: Path) -> int:
    database = Database.in_folder(folder)
    rows = list(busy_week(datetime.now(UTC)))
    await database.open()
    for first in range(0, len(rows), 500):
        await Requests(database).add(rows[first : first + 500])
    await database.close()
    return len(rows)


@pytest.fixture(scope="module")
def ollama(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with fake_ollama(tmp_path_factory.mktemp("ollama"), "--models", "gemma2:2b,phi3:latest") as program:
        yield program


@pytest.fixture(scope="module")
def busy(ollama: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server that has answered for a week."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "data").mkdir()
    with ThreadPoolExecutor(1) as apart:  # Playwright's own loop runs in this thread
        apart.submit(lambda: asyncio.run(logged(folder / "data"))).result()
    with server(folder, OLLAMA_HOST=ollama.url, MODELS_CACHE_SECONDS="1") as site:
        yield site


@pytest.fixture(scope="module")
def fresh(ollama: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server that nobody has asked anything."""
    with server(tmp_path_factory.mktemp("fresh"), OLLAMA_HOST=ollama.url) as site:
        yield site


@pytest.fixture
def look(browser: Browser) -> Iterator[Open]:
    """Opens the dashboard. Whatever is asked of another server, or written into the console, fails the test."""
    contexts, wrong = [], []

    def opened(site: Program, *, allowed: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(site.url) else None)
        page.on("pageerror", lambda problem: wrong.append(str(problem)))
        page.on("console", lambda said: None if allowed and allowed in said.text else wrong.append(said.text))
        page.goto(f"{site.url}/dashboard")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def drawn(page: Page) -> str:
    """Wait until all is drawn; returns of which moment."""
    expect(page.locator("#dashboard[data-drawn]")).to_be_visible()
    return page.locator("#dashboard").get_attribute("data-drawn") or ""


def number(page: Page, label: str) -> int:
    """What stands in a tile."""
    tile = page.locator(".tile").filter(has_text=label).locator("dd")
    return int(re.sub(r"\D", "", tile.inner_text()))


def smallest(targets: Locator) -> float:
    """The smallest side of what is to be pressed, in pixels."""
    boxes = [box for target in targets.all() if (box := target.bounding_box()) is not None]
    return min(min(box["width"], box["height"]) for box in boxes)


def bars(page: Page, chart: str) -> int:
    return page.locator(f'[data-chart="{chart}"] .bars .point path').count()


def test_a_week_is_drawn_with_a_line_on_what_each_picture_means(look: Open, busy: Program) -> None:
    page = look(busy)
    drawn(page)
    assert page.locator(".picture .main-svg").count() >= CHARTS
    assert page.locator(".card .meaning").count() == CHARTS + 1
    day = number(page, "Replies")
    assert bars(page, "replies") >= 3 * 5
    for chart in ("waiting", "first", "speed", "memory"):
        assert page.locator(f'[data-chart="{chart}"] .scatterlayer .trace').count() >= 2
    expect(page.locator('[data-chart="speed"] .legend')).to_contain_text("ollama/phi3:latest")
    expect(page.get_by_role("row", name="ollama/gemma2:2b")).to_contain_text("in memory")
    expect(page.locator(".note:visible")).to_have_count(0)
    assert fits(page)
    page.get_by_role("button", name="7 days").click()
    expect(page.get_by_role("button", name="7 days")).to_have_attribute("aria-pressed", "true")
    expect(page.locator('[data-chart="replies"] .xtick').nth(5)).to_be_visible()
    page.wait_for_function(f"Number(document.querySelector('.tile dd').textContent.replace(/\\D/g, '')) > {3 * day}")
    page.reload()
    drawn(page)
    expect(page.get_by_role("button", name="7 days")).to_have_attribute("aria-pressed", "true")


def test_it_looks_again_by_itself_while_somebody_looks(look: Open, fresh: Program) -> None:
    page = look(fresh)
    first = drawn(page)
    page.clock.install()
    page.reload()
    second = drawn(page)
    with page.expect_response("**/api/dashboard?period=day"):
        page.clock.run_for(16_000)
    assert first <= second


def test_an_empty_store_has_empty_pictures_with_a_sentence(look: Open, fresh: Program) -> None:
    page = look(fresh, color_scheme="dark")
    drawn(page)
    assert number(page, "Replies") == 0
    expect(page.locator('[data-chart="replies"]')).to_contain_text("Nobody has asked anything in this time.")
    expect(page.locator('[data-chart="first"]')).to_contain_text("No reply with a time in these hours.")
    assert page.locator(".picture .main-svg").count() >= CHARTS
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 150


@pytest.mark.parametrize("locale", ["en-US", "ru-RU"])
def test_on_a_phone_the_sentences_of_empty_pictures_are_whole(look: Open, fresh: Program, locale: str) -> None:
    page = look(fresh, locale=locale, viewport=PHONE)
    drawn(page)
    beyond = page.locator(".picture .annotation-text").evaluate_all(
        """(nodes) => nodes.filter((node) => {
            const [said, drawn] = [node, node.closest('.main-svg')].map((one) => one.getBoundingClientRect());
            return said.left < drawn.left || said.right > drawn.right;
        }).map((node) => node.textContent)"""
    )
    assert page.locator(".picture .annotation-text").count() > 4
    assert beyond == []


def test_on_a_russian_phone_it_is_russian_and_fits(look: Open, busy: Program) -> None:
    page = look(busy, locale="ru-RU", viewport=PHONE, has_touch=True, is_mobile=True, timezone_id="Asia/Vladivostok")
    drawn(page)
    assert smallest(page.locator("header :is(button, a)")) >= FINGER
    assert page.title() == "Сводка"
    expect(page.get_by_role("heading", name="Время до первого токена")).to_be_visible()
    expect(page.locator('[data-chart="first"] .ytick').last).to_contain_text("с")
    assert fits(page)
    words = page.locator("body").inner_text()
    assert not re.search(r"\b(Replies|Waiting|Memory|free|finished|Models)\b", words)


def test_an_hours_bar_stands_in_the_middle_of_the_hour_wherever_one_looks_from(look: Open, busy: Program) -> None:
    page = look(busy, timezone_id="Asia/Kolkata")  # half an hour beside the others
    drawn(page)
    begins, drawn_at = page.evaluate("""() => {
        const { data, calcdata } = document.querySelector('[data-chart="replies"]');
        return [Date.parse(`${data[0].x[0]}Z`), calcdata[0][0].p];
    }""")
    assert drawn_at - begins == 30 * 60 * 1000


def test_a_stranger_is_told_what_to_do(look: Open, busy: Program) -> None:
    hidden = {"X-Forwarded-For": "203.0.113.9"}
    page = look(busy, allowed="403", locale="ru-RU", viewport=PHONE, extra_http_headers=hidden)
    expect(page.get_by_role("heading")).to_have_text("Сводка")
    expect(page.locator("main")).to_contain_text("Без входа сводка открывается только на машине сервера.")
    expect(page.get_by_role("link", name="К чату")).to_be_visible()
    assert page.locator(".picture").count() == 0
    assert fits(page)


def test_who_loses_the_right_to_look_sees_nothing_more(look: Open, fresh: Program) -> None:
    page = look(fresh, allowed="403")
    drawn(page)
    page.set_extra_http_headers({"X-Forwarded-For": "203.0.113.9"})
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("main")).to_contain_text("Without a login the dashboard answers the server's own machine only.")
    assert page.locator(".picture").count() == 0
    expect(page.locator("main a")).to_have_text(["To the chat"])  # there is nothing to sign in to
    page.set_extra_http_headers({})
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    drawn(page)


def test_while_the_database_is_away_the_rest_is_shown(
    look: Open, ollama: Program, postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres.url(wait_for(postgres.new_database))
    postgres.stop()
    with server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url) as site:
        page = look(site)
        drawn(page)
        expect(page.locator(".note:visible")).to_contain_text("The database is away")
        expect(page.locator(".tile").filter(has_text="Database")).to_contain_text("away")
        expect(page.locator(".engines")).to_contain_text("Ollama answers")


def test_an_administrator_comes_there_from_my_data(browser: Browser, ollama: Program, tmp_path: Path) -> None:
    with server(tmp_path, OLLAMA_HOST=ollama.url, AUTH="password") as site:
        command = [sys.executable, "-m", "app.users", "add", "Ann", "--admin", "--password-stdin"]
        environment = clean_environment(DATA_DIR=str(tmp_path / "data"), AUTH="password")
        subprocess.run(command, input=PASSWORD.encode(), env=environment, check=True, cwd=tmp_path)
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{site.url}/dashboard")
        page.get_by_role("link", name="Sign in").click()
        page.locator("#email").fill("ann")
        page.locator("#password").fill(PASSWORD)
        page.locator("form button[type=submit]").click()
        page.locator("#chat-input").wait_for()
        my_data(page).press("Dashboard")
        drawn(page)
        context.close()


@pytest.mark.parametrize("locale", ["en-US", "ru-RU"])
def test_a_visitor_sees_what_the_replies_of_a_conversation_took(
    visit: Callable[..., Chat], busy: Program, locale: str
) -> None:
    phone = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    chat = visit(busy, locale=locale, **phone if locale == "ru-RU" else {})
    page, asked, wrong = chat.page, [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda problem: wrong.append(str(problem)))
    for text in ("one two three", "four five"):
        chat.ask(f"!echo {text}")
    page.wait_for_url("**/thread/*")
    window = my_data(page, locale)
    assert not any("plotly" in url for url in asked)
    window.press("Timing as a chart" if locale == "en-US" else "Время на графике")
    shown = page.locator("dialog.timing")
    expect(shown.locator('[data-chart="times"] .scatterlayer .trace')).to_have_count(2)
    expect(shown.locator('[data-chart="times"] .trace').first.locator(".point")).to_have_count(2)
    expect(shown.locator('[data-chart="speeds"] .scatterlayer .point')).to_have_count(2)
    if locale == "ru-RU":
        assert smallest(window.window.locator("button:visible")) >= FINGER
        assert smallest(shown.locator("button:visible")) >= FINGER
    expect(shown).to_contain_text("first token" if locale == "en-US" else "первый токен")
    assert [url for url in asked if not url.startswith((busy.url, "data:", "blob:"))] == []
    # Plotly's own nodes overlap; what is around them does not.
    body = shown.locator(".box-body")
    assert body.evaluate("(node) => node.scrollWidth <= node.clientWidth")
    box = shown.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page.evaluate("window.innerWidth")
    assert wrong == []
    page.keyboard.press("Escape")
    expect(shown).to_have_count(0)
    expect(window.window).to_be_visible()
