"""Limits as a visitor meets them, and other sites' pages that ask the API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import PATIENCE, Chat
from tests.site import Program, fake_ollama, server

Visit = Callable[..., Chat]
KEY = "0f1e2d3c4b5a69788796a5b4"
REFUSED = re.compile(r"You have sent 2 messages in the last 12 seconds\. Try again in \d+ seconds?\.")


def test_who_asks_too_often_is_told_when_to_go_on_and_loses_nothing(visit: Visit, tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "100") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, RATE_LIMIT="2/12seconds") as site,
    ):
        chat = visit(site)
        chat.ask("!echo one")
        chat.ask("!echo two")
        chat.say("!echo three")
        chat.page.get_by_test_id("retry").last.wait_for()
        assert REFUSED.fullmatch(chat.replies()[-1])
        # An edit that comes too soon leaves everything as it was.
        chat.page.locator(".message-content", has_text="!echo one").first.hover()
        chat.page.locator(".edit-message").first.click()
        chat.page.locator("#edit-chat-input").fill("!echo changed")
        chat.page.locator(".confirm-edit").click()
        expect(chat.page.locator("[data-sonner-toast]", has_text=REFUSED)).to_be_visible(timeout=PATIENCE)
        for anew in (False, True):
            if anew:
                chat.reload()
            chat.page.get_by_test_id("retry").last.wait_for()
            expect(chat.page.locator(".ai-message .prose")).to_have_text(["one", "two", REFUSED])
        third = chat.page.locator(".ai-message .prose", has_text="three")
        while not third.count():
            chat.page.wait_for_timeout(1000)
            chat.retry()
            chat.page.locator('[data-testid="retry"]:visible').last.wait_for()
        chat.reload()
        third.wait_for()
        assert chat.replies() == ["one", "two", "three"]


# What a page of another site does.
ASK = """async ([url, key, credentials]) => {
    try {
        const answer = await fetch(url, {
            method: 'POST',
            credentials,
            headers: {'Content-Type': 'application/json', 'Authorization': `Bearer ${key}`, 'X-API-Key': key},
            body: JSON.stringify({model: 'gemma2:2b', messages: [{role: 'user', content: '!echo hello'}]}),
        })
        const readable = ['x-request-id', 'x-context-messages-left-out'].map(name => answer.headers.get(name))
        return [answer.status, await answer.text(), ...readable]
    } catch (problem) {
        return String(problem)
    }
}"""

SIMPLE = """async url => {
    const body = JSON.stringify({model: 'gemma2:2b', messages: [{role: 'user', content: '!echo hello'}]})
    try {
        await fetch(url, {method: 'POST', mode: 'no-cors', body})
    } catch {}
}"""


@pytest.fixture
def elsewhere(browser: Browser, tmp_path: Path) -> Iterator[tuple[Page, Program]]:
    """A page of another site, and the Ollama that stands there."""
    with fake_ollama(tmp_path, "--speedup", "100") as ollama:
        context = browser.new_context()
        page = context.new_page()
        page.goto(ollama.url)
        yield page, ollama
        context.close()


def asked(page: Page, url: str, key: str = KEY, *, credentials: str = "same-origin") -> Any:
    return page.evaluate(ASK, [url, key, credentials])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "another site"])
def test_another_sites_page_asks_nothing_unless_it_is_named(
    elsewhere: tuple[Page, Program], tmp_path: Path, host: str
) -> None:
    page, ollama = elsewhere
    for origins in ({}, {"CORS_ORIGINS": "https://app.example.org"}):
        with server(tmp_path, OLLAMA_HOST=ollama.url, **origins) as site:
            url = site.url.replace("127.0.0.1", host)
            assert "Failed to fetch" in asked(page, f"{url}/v1/chat/completions")
            # Nor does it reach us where the browser asks no leave first.
            page.evaluate(SIMPLE, f"{url}/v1/chat/completions")
            asked_for = [request for request in ollama.get("/_fake/state")["requests"] if request.get("messages")]
            assert asked_for == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same site", "another site"])
@pytest.mark.parametrize("named", ["itself", "*"])
def test_a_site_that_is_named_asks_the_api_and_nothing_else(
    elsewhere: tuple[Page, Program], tmp_path: Path, host: str, named: str
) -> None:
    page, ollama = elsewhere
    origins = ollama.url if named == "itself" else "*"
    with server(
        tmp_path, OLLAMA_HOST=ollama.url, CORS_ORIGINS=origins, API_KEYS=f"ann:{KEY}", MAX_BODY_BYTES="16384"
    ) as site:
        url = site.url.replace("127.0.0.1", host)
        status, body, request_id, left_out = asked(page, f"{url}/v1/chat/completions")
        assert (status, left_out) == (200, "0")
        assert '"content":"hello"' in body
        assert request_id
        # What goes wrong can be read as well.
        for path, key, expected in (
            ("/v1/chat/completions", "wrong", 401),
            ("/v1/nowhere", KEY, 404),
            ("/v1/embeddings", KEY, 422),
        ):
            assert asked(page, url + path, key)[0] == expected
        # Cookies never come along, and the page's own routes stay closed.
        assert "Failed to fetch" in asked(page, f"{url}/v1/chat/completions", credentials="include")
        for path in ("/login", "/project/threads", "/api/me", "/feedback", "/auth/header"):
            assert "Failed to fetch" in asked(page, url + path)
