"""Signing in on the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import PATIENCE, Chat
from tests.site import Program, fake_ollama, server

PASSWORD = "green horse staple 7"
TRIES = 6

# Language: the form's words, what a wrong password is answered, what too many tries are.
WORDS = {
    "en-US": ("Name", "Password", "Sign In", "The name or the password is wrong", "Too many tries"),
    "ru-RU": ("Имя", "Пароль", "Войти", "Имя или пароль не подходит", "Слишком много попыток"),
}

Open = Callable[..., Page]


@pytest.fixture
def site(browser: Browser, tmp_path: Path) -> Iterator[Program]:
    with (
        fake_ollama(tmp_path, "--speedup", "100") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, AUTH="password", SIGNUP="on", LOGIN_TRIES=str(TRIES)) as program,
    ):
        account = {"name": "Ann", "password": PASSWORD}
        httpx.post(f"{program.url}/api/auth/register", json=account, trust_env=False).raise_for_status()
        yield program


@pytest.fixture
def open_page(browser: Browser, site: Program) -> Iterator[Open]:
    """Opens a path of the site in a browser that has never been here."""
    contexts = []

    def opened(path: str = "/", locale: str = "en-US") -> Page:
        context = browser.new_context(locale=locale, viewport={"width": 1100, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(site.url + path)
        page.wait_for_url("**/login")
        return page

    yield opened
    for context in contexts:
        context.close()


def sign_in(page: Page, name: str, password: str) -> None:
    page.locator("#email").fill(name)
    page.locator("#password").fill(password)
    page.locator("form button[type=submit]").click()


@pytest.mark.parametrize("locale", ["en-US", "ru-RU"])
def test_the_form_asks_for_a_name_and_tells_what_is_wrong(open_page: Open, locale: str) -> None:
    name, password, button, wrong, too_many = WORDS[locale]
    page = open_page(locale=locale)
    expect(page.locator("label[for=email]")).to_have_text(name)
    expect(page.locator("label[for=password]")).to_have_text(password)
    expect(page.locator("form button[type=submit]")).to_have_text(button)
    sign_in(page, "Ann", "not her password")
    expect(page.locator("form")).to_contain_text(wrong)
    toast = page.locator("[data-sonner-toast]")
    expect(toast.first).to_contain_text(wrong)
    for _ in range(TRIES):
        with page.expect_response("**/login") as answered:
            sign_in(page, "Ann", "not her password")
    assert answered.value.status == 429
    expect(page.locator("form")).to_contain_text(too_many)
    expect(toast.filter(has_text=too_many).first).to_have_text(re.compile(r"\d+"))


def test_who_has_signed_in_chats_and_finds_it_again_elsewhere(open_page: Open) -> None:
    page = open_page()
    sign_in(page, "ANN", PASSWORD)
    page.locator("#chat-input").wait_for()
    assert Chat(page).ask("!echo one") == "one"
    page.wait_for_url("**/thread/*")
    path = page.url.partition("/thread/")[2]
    another = open_page(f"/thread/{path}")
    sign_in(another, "ann", PASSWORD)
    another.wait_for_url(f"**/thread/{path}")
    expect(another.locator(".ai-message .prose")).to_have_text("one")


def test_the_page_that_changes_its_password_goes_on(open_page: Open) -> None:
    page = open_page()
    sign_in(page, "Ann", PASSWORD)
    page.locator("#chat-input").wait_for()
    chat = Chat(page)
    assert chat.ask("!echo one") == "one"
    with page.expect_event("websocket"):  # it connects anew, with the token that it was given
        status = page.evaluate(
            """async ([old_password, new_password]) => {
              const headers = {'Content-Type': 'application/json'};
              const body = JSON.stringify({old_password, new_password});
              return (await fetch('/api/auth/password', {method: 'POST', headers, body})).status;
            }""",
            [PASSWORD, "blue horse staple 88"],
        )
    assert status == 200
    assert chat.ask("!echo two") == "two"
    chat.reload()
    expect(page.locator(".ai-message .prose")).to_have_text(["one", "two"])


def test_a_page_that_is_open_is_closed_where_one_signs_out_everywhere(open_page: Open, site: Program) -> None:
    page = open_page()
    sign_in(page, "Ann", PASSWORD)
    page.locator("#chat-input").wait_for()
    assert Chat(page).ask("!echo one") == "one"
    with httpx.Client(base_url=site.url, trust_env=False) as elsewhere:
        elsewhere.post("/login", data={"username": "ann", "password": PASSWORD}).raise_for_status()
        elsewhere.post("/api/auth/logout-everywhere").raise_for_status()
    page.reload()
    page.wait_for_url("**/login")
    expect(page.locator("body")).not_to_contain_text("one")
