"""The page in a real browser, a fake Ollama behind it that answers at once.

For the first token it goes on to write at the speed of gemma2:2b on two cores, as an engine does: a reply that ends at
once would have the page draw its end before its first word.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from bench.figures import Figure, skipped
from tests.site import CHROMIUM_ARGUMENTS, Program, chromium, fake_ollama, server

_STARTS: Final = 5
_CHATS: Final = 20

# Runs in the page: from the Enter key to the moment when the newest reply's text passes a test.
_WATCH: Final = """
([done, selector]) => new Promise(resolve => {
  const known = document.querySelectorAll(selector).length;
  let began = null;
  document.querySelector('#chat-input').addEventListener('keydown', () => { began = performance.now(); }, {once: true});
  const look = () => {
    const all = document.querySelectorAll(selector);
    const text = all.length > known ? all[all.length - 1].innerText : '';
    if (began !== null && text && text.split(/\\s+/).length >= done) resolve(performance.now() - began);
    else requestAnimationFrame(look);
  };
  look();
})
"""


def _start_seconds(folder: Path, url: str) -> tuple[float, int]:
    """From the start of the process to the page's first byte; and memory then, in bytes."""
    began = time.perf_counter()
    with server(folder, OLLAMA_HOST=url) as site:
        return time.perf_counter() - began, _memory(site)


def _memory(program: Program) -> int:
    return int(psutil.Process(program.process.pid).memory_info().rss)


def _milliseconds(page: Any, message: str, words: int) -> float:
    """From Enter until the reply has that many words on screen."""
    page.locator("#chat-input").fill(message)
    page.locator("#chat-submit:not([disabled])").wait_for()
    handle = page.evaluate_handle(f"args => {{ window.measured = ({_WATCH})(args); }}", [words, ".ai-message .prose"])
    handle.dispose()
    page.locator("#chat-input").press("Enter")
    measured = float(page.evaluate("() => window.measured"))
    page.locator("#stop-button").wait_for(state="detached")
    return measured


def measure() -> list[Figure]:
    """Start, memory, first token, long reply."""
    goals = ("under 2 s", "under 170 MB", "under 100 ms", "under 0.8 s")
    names = (
        "process start to page ready",
        f"resident memory after {_CHATS} chats with Ollama",
        "Enter to first token on screen",
        "2,000 undelayed tokens fully on screen",
    )
    at_once = ("--prompt-speed", "1000000", "--load-seconds", "0")
    with tempfile.TemporaryDirectory() as name, fake_ollama(Path(name), *at_once) as ollama:
        folder = Path(name)
        start = median(_start_seconds(folder, ollama.url)[0] for _ in range(_STARTS))
        figures = [Figure(names[0], f"{start:.2f} s", goals[0], start < 2)]
        browser_path = chromium()
        if browser_path is None:
            return figures + [skipped(*row) for row in zip(names[1:], ["no Chromium"] * 3, goals[1:], strict=True)]
        from playwright.sync_api import sync_playwright

        site_of_room = server(folder, OLLAMA_HOST=ollama.url, MAX_TOKENS="4096", NUM_CTX="8192")  # 2,000 tokens fit
        with site_of_room as site, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=CHROMIUM_ARGUMENTS)
            page = browser.new_page()
            page.goto(site.url)
            page.locator("#chat-settings-open-modal").wait_for()
            firsts = [_milliseconds(page, "!words 5", 1) for _ in range(_CHATS)]
            memory = _memory(site)
            page.goto(site.url)
            page.locator("#chat-settings-open-modal").wait_for()
            longs = [_milliseconds(page, "!nodelay 2000", 2000) for _ in range(3)]
            browser.close()
    first, long = median(firsts), median(longs) / 1000
    return [
        *figures,
        Figure(names[1], f"{memory / 1e6:.0f} MB", goals[1], memory < 170e6),
        Figure(names[2], f"{first:.0f} ms", goals[2], first < 100),
        Figure(names[3], f"{long:.2f} s", goals[3], long < 0.8),
    ]
