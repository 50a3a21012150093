"""A real browser in front of a real server, with a fake Ollama behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.site import CHROMIUM_ARGUMENTS, Program, chromium, fake_ollama, server

PATIENCE = 20_000  # milliseconds


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on this machine; on Debian or Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Chat:
    """The page, in the words of a visitor."""

    page: Page

    def say(self, text: str) -> None:
        self.page.locator("#chat-input").fill(text)
        self.page.locator("#chat-submit:not([disabled])").wait_for()  # the page is connected
        self.page.keyboard.press("Enter")

    def status(self, phase: str) -> Locator:
        """The status line of the newest reply that is in a phase, once there is one."""
        line = self.page.locator(f'[data-testid="reply-status"][data-phase="{phase}"]').last
        line.wait_for(timeout=PATIENCE)
        return line

    def ask(self, text: str) -> str:
        """Say something and wait for the whole reply."""
        before = self.page.locator('[data-phase="finished"]').count()
        self.say(text)
        self.page.locator('[data-phase="finished"]').nth(before).wait_for(timeout=PATIENCE)
        return self.replies()[-1]

    def replies(self) -> list[str]:
        return self.page.locator(".ai-message .prose").all_inner_texts()

    def wait_for(self, text: str) -> None:
        self.page.get_by_text(text).last.wait_for(timeout=PATIENCE)

    def settings(self) -> None:
        self.page.locator("#chat-settings-open-modal").click()
        self.page.locator("#chat-settings").wait_for(timeout=PATIENCE)

    def reload(self) -> None:
        self.page.reload()
        self.page.locator("#chat-input").wait_for(timeout=PATIENCE)


@dataclass
class World:
    """What a test talks to."""

    ollama: Program
    server: Program
    visit: Callable[..., Chat]


def _open(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("#chat-input").wait_for()
    page.locator("#chat-settings-open-modal").wait_for()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Chat]]:
    """Opens a page in a browser of its own, which has never been here. The site: anything with a `url`."""
    contexts = []

    def open_page(site: Program, **options: Any) -> Chat:
        context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1100, "height": 800}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        try:
            _open(page, site.url)
        except PlaywrightError:
            # Chromium breaks off what it loads when the machine's network changes, as it does when containers come
            # and go (ERR_NETWORK_CHANGED).
            _open(page, site.url)
        return Chat(page)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def running(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Program]]:
    """A fake Ollama with two models and a server in front of it."""
    folder = tmp_path_factory.mktemp("site")
    with (
        fake_ollama(folder, "--models", "gemma2:2b,phi3:latest", "--thinker", "qwen3:0.6b", "--speedup", "4") as ollama,
        server(folder, OLLAMA_HOST=ollama.url, MODELS_CACHE_SECONDS="1") as site,
    ):
        yield ollama, site


@pytest.fixture
def world(running: tuple[Program, Program], visit: Callable[..., Chat]) -> World:
    ollama, site = running
    return World(ollama, site, visit)


@pytest.fixture
def chat(world: World) -> Chat:
    return world.visit(world.server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
