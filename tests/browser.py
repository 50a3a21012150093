"""A real browser, and the page in the words of a visitor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.site import CHROMIUM_ARGUMENTS, chromium

PATIENCE = 20_000  # milliseconds


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on this machine; on Debian or Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
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

    def retry(self) -> None:
        """Ask the last message again. The buttons of earlier replies are hidden, and Playwright keeps to what it found
        first: the newest may not be drawn yet."""
        self.page.locator('[data-testid="retry"]:visible').last.click()

    def settings(self) -> None:
        self.page.locator("#chat-settings-open-modal").click()
        self.page.locator("#chat-settings").wait_for(timeout=PATIENCE)

    def reload(self) -> None:
        failures: list[str] = []

        def note(request: Request) -> None:
            failures.append(str(request.failure))

        self.page.on("requestfailed", note)
        try:
            self._load_again()
        except PlaywrightError as problem:
            # Chromium breaks off what it loads when the machine's network changes, as it does when containers come and
            # go.
            if "ERR_NETWORK_CHANGED" not in f"{problem} {failures}":
                raise
            self._load_again()
        finally:
            self.page.remove_listener("requestfailed", note)

    def _load_again(self) -> None:
        self.page.reload()
        self.page.locator("#chat-input").wait_for(timeout=PATIENCE)


def _open(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("#chat-input").wait_for()
    page.locator("#chat-settings-open-modal").wait_for()


class Site(Protocol):
    """What can be visited."""

    @property
    def url(self) -> str: ...


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Chat]]:
    """Opens a page in a browser of its own, which has never been here. The site: anything with a `url`."""
    contexts = []

    def open_page(site: Site, **options: Any) -> Chat:
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
