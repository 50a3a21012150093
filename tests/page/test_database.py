"""The page while PostgreSQL comes and goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import PATIENCE, Chat
from tests.postgres import Postgres, wait_for
from tests.site import Program, fake_ollama, server

Visit = Callable[[Program], Chat]
NOT_KEPT = "This conversation is not being kept"


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.url(wait_for(postgres.new_database))


def test_while_the_database_is_away_the_chat_goes_on_and_says_that_it_is_not_kept(
    visit: Visit, postgres: Postgres, url: str, tmp_path: Path
) -> None:
    postgres.stop()
    with (
        fake_ollama(tmp_path, "--speedup", "100") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url) as site,
    ):
        assert "STORE the database is away" in site.text()
        chat = visit(site)
        assert chat.ask("!echo one") == "one"
        expect(chat.page.get_by_text(NOT_KEPT).first).to_be_visible(timeout=PATIENCE)
        assert chat.ask("!echo two") == "two"
        postgres.start()
        later = visit(site)
        assert later.ask("!echo three") == "three"
        expect(later.page.get_by_text(NOT_KEPT)).to_have_count(0)
        later.page.reload()
        later.page.locator(".ai-message .prose", has_text="three").wait_for(timeout=PATIENCE)


def test_a_restart_of_the_database_between_two_messages_is_not_noticed(
    visit: Visit, postgres: Postgres, url: str, tmp_path: Path
) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "100") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url) as site,
    ):
        chat = visit(site)
        assert chat.ask("!echo one") == "one"
        postgres.stop()
        postgres.start()
        assert chat.ask("!echo two") == "two"
        expect(chat.page.get_by_text(NOT_KEPT)).to_have_count(0)
        chat.page.reload()
        chat.page.locator(".ai-message .prose", has_text="one").wait_for(timeout=PATIENCE)
        chat.page.locator(".ai-message .prose", has_text="two").wait_for(timeout=PATIENCE)


def test_a_database_that_goes_away_in_mid_conversation_takes_nothing_from_the_page(
    visit: Visit, postgres: Postgres, url: str, tmp_path: Path
) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "100") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url) as site,
    ):
        chat = visit(site)
        assert chat.ask("!echo one") == "one"
        postgres.stop()
        assert chat.ask("!echo two") == "two"
        expect(chat.page.get_by_text(NOT_KEPT).first).to_be_visible(timeout=PATIENCE)
        postgres.start()
        assert chat.ask("!echo three") == "three"
        assert chat.replies() == ["one", "two", "three"]
