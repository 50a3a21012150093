"""The built-in guide on the page: a real model on the real path, where there is neither Ollama nor a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import PATIENCE, Chat
from tests.site import Program, server

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed: make install-local")

Visit = Callable[..., Chat]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("guide")
    nobody = "http://127.0.0.1:9"
    with server(folder, OLLAMA_HOST=nobody, QWEN_MODEL="Qwen/Qwen3-0.6B", HF_HOME=str(Path(folder) / "hub")) as program:
        yield program


def test_the_guide_answers_and_the_page_says_why_and_how_to_change_it(site: Program, visit: Visit) -> None:
    chat = visit(site)
    banner = chat.page.get_by_test_id("status-banner")
    expect(banner).to_contain_text("The built-in guide answers", timeout=PATIENCE)
    banner.get_by_role("button").first.click()
    for words in ("No Ollama answers at http://127.0.0.1:9", "ollama pull gemma2:2b"):
        expect(banner).to_contain_text(words)
    chat.page.get_by_text("What is this?").click()
    chat.status("finished")
    assert "chainlit-ollama" in chat.replies()[-1]
    assert "guide" in chat.status("finished").inner_text()


def test_the_guide_answers_in_russian_and_declines_what_it_does_not_know(site: Program, visit: Visit) -> None:
    chat = visit(site, locale="ru-RU")
    assert "make run" in chat.ask("Как запустить программу?")
    assert "гид" in chat.ask("Напиши стих про любовь")


def test_the_guides_reply_can_be_stopped_and_the_next_one_is_whole(site: Program, visit: Visit) -> None:
    chat = visit(site)
    chat.say("How do I run it?")
    chat.page.locator(".ai-message .prose").wait_for()
    chat.page.evaluate("document.querySelector('#stop-button')?.click()")  # a fast machine may have finished
    chat.page.locator('[data-phase="stopped"], [data-phase="finished"]').wait_for()
    assert "make run" in chat.ask("How do I start the program?")


def test_two_visitors_of_the_guide_get_each_their_own_answer(site: Program, visit: Visit) -> None:
    one, two = visit(site), visit(site)
    one.say("How do I start the program?")
    two.say("What is the temperature?")
    one.status("finished")
    two.status("finished")
    assert "make run" in one.replies()[-1]
    assert "Temperature" in two.replies()[-1]
