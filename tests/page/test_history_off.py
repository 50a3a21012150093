"""The page with HISTORY=off: no list of conversations, everything else as ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import Chat
from tests.site import fake_ollama, server

Visit = Callable[..., Chat]


@pytest.mark.parametrize(
    ("locale", "words"), [("en-US", "Conversations are not kept here"), ("ru-RU", "Беседы здесь не сохраняются")]
)
def test_without_a_history_the_page_works_and_a_reload_begins_anew(
    visit: Visit, tmp_path: Path, locale: str, words: str
) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "4") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, HISTORY="off") as site,
    ):
        chat = visit(site, locale=locale)
        errors: list[str] = []
        chat.page.on("pageerror", lambda error: errors.append(str(error)))
        banner = chat.page.get_by_test_id("status-banner")
        banner.get_by_role("button", name="gemma2:2b").click()
        expect(banner).to_contain_text(words)
        chat.ask("!echo one")
        chat.ask("!echo two")
        chat.say("!words 400")
        chat.page.locator(".ai-message .prose").filter(has_text="the quick").wait_for()
        chat.page.locator("#stop-button").click()
        chat.status("stopped")
        old = chat.page.locator(".ai-message").last.element_handle()
        chat.retry()
        chat.page.wait_for_function("old => !old.isConnected", arg=old)
        chat.page.locator("#stop-button").click()
        chat.status("stopped")
        chat.page.locator(".message-content", has_text="!echo one").first.hover()
        chat.page.locator(".edit-message").first.click()
        chat.page.locator("#edit-chat-input").fill("!echo changed")
        chat.page.locator(".confirm-edit").click()
        chat.page.locator(".ai-message", has_text="changed").wait_for()
        expect(chat.page.locator(".ai-message")).to_have_count(1)
        assert chat.page.locator("[data-sidebar]").count() == 0
        chat.reload()
        chat.page.get_by_role("button", name="Help with code" if locale == "en-US" else "Помоги с кодом").wait_for()
        expect(chat.page.locator(".ai-message")).to_have_count(0)
        chat.ask("!echo three")
        assert chat.replies() == ["three"]
        chat.page.locator("#new-chat-button").first.click()
        chat.page.wait_for_function("document.querySelectorAll('.ai-message').length === 0")
        chat.ask("!echo four")
        assert errors == []
        assert not (tmp_path / "data").exists()
