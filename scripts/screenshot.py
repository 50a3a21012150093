"""`python -m scripts.screenshot`: takes the README's picture of the page, with the guide answering."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from app.settings import ROOT
from tests.site import CHROMIUM_ARGUMENTS, chromium, server

_QUESTIONS = ("What is this program?", "What is the temperature setting?")


def main() -> None:
    browser_path = chromium()
    if browser_path is None:
        sys.exit("screenshot: no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        server(Path(folder), MODEL="guide", OLLAMA_HOST="http://127.0.0.1:9") as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=browser_path, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1000, "height": 640}, locale="en-US", color_scheme="light")
        page.goto(site.url)
        page.locator("#chat-settings-open-modal").wait_for()
        for number, question in enumerate(_QUESTIONS):
            page.locator("#chat-input").fill(question)
            page.locator("#chat-submit:not([disabled])").wait_for()
            page.keyboard.press("Enter")
            page.locator('[data-phase="finished"]').nth(number).wait_for()
        page.wait_for_timeout(500)
        page.locator('[data-phase="finished"]').first.scroll_into_view_if_needed()
        (ROOT / "docs").mkdir(exist_ok=True)
        page.screenshot(path=ROOT / "docs" / "screenshot.png")
        browser.close()


if __name__ == "__main__":
    main()
