"""Accounts on the page: making one, what comes along from before, another password, signing out everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from app.settings import ROOT
from tests.browser import PATIENCE, Chat
from tests.site import Program, fake_ollama, server
from tests.windows import answer, fits, my_data, question

PASSWORD = "green horse staple 7"
OTHER = "another pillow 44 sky"
COMMON = "password123"
BEFORE = "from before you signed in"
PHONE = {"width": 375, "height": 700}

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def ollama(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with fake_ollama(tmp_path_factory.mktemp("ollama"), "--speedup", "100") as program:
        yield program


@pytest.fixture(scope="module")
def site(ollama: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """People make accounts themselves, as many as the tests want."""
    folder = tmp_path_factory.mktemp("accounts")
    with server(folder, OLLAMA_HOST=ollama.url, AUTH="password", SIGNUP="on", LOGIN_TRIES="1000") as program:
        yield program


@pytest.fixture
def open_page(browser: Browser, site: Program) -> Iterator[Open]:
    """Opens the login page in a browser that has never been here."""
    contexts = []

    def opened(url: str = site.url, **options: Any) -> Page:
        context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1100, "height": 800}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(url)
        page.locator("#email, #chat-input").first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()


def sign_in(page: Page, name: str, password: str) -> None:
    page.locator("#email").fill(name)
    page.locator("#password").fill(password)
    page.locator("form button[type=submit]").click()
    page.locator("#chat-input").wait_for()


def fill_in(page: Page, name: str, password: str, label: str = "Create an account") -> Locator:
    """The form for a new account, filled in and sent."""
    page.get_by_role("button", name=label).click()
    form = page.get_by_role("dialog").locator("form")
    form.get_by_role("textbox").first.fill(name)
    form.locator("#new-password").fill(password)
    form.locator("[type=submit]").click()
    return form


def register(page: Page, name: str, password: str = PASSWORD) -> None:
    fill_in(page, name, password)
    page.locator("#chat-input").wait_for()


@pytest.mark.parametrize("viewport", [{"width": 1100, "height": 800}, PHONE], ids=["computer", "phone"])
def test_who_makes_an_account_is_signed_in_at_once(open_page: Open, viewport: Any) -> None:
    page = open_page(viewport=viewport)
    logo = page.locator("img.logo").evaluate("(node) => node.src")
    assert page.request.get(logo).text() == (ROOT / "public" / "favicon.svg").read_text()
    page.get_by_role("button", name="Create an account").click()
    form = page.get_by_role("dialog", name="Create an account")
    expect(form).to_contain_text("At least 10 characters")
    assert fits(page)
    page.keyboard.press("Escape")
    name = f"Ann {viewport['width']}".replace(" ", "-")
    register(page, name)
    page.locator("#user-nav-button").click()
    expect(page.get_by_role("menu")).to_contain_text(name)
    page.keyboard.press("Escape")
    data = my_data(page)
    expect(data.section("Account")).to_contain_text(f"Signed in as {name}.")
    expect(data.section("Other devices")).to_have_count(0)


def test_what_is_wrong_with_an_account_is_said_beside_its_field(open_page: Open) -> None:
    page = open_page()
    form = fill_in(page, "Ben", COMMON)
    said = form.get_by_role("status")
    expect(said).to_contain_text("among the first that anybody would try")
    expect(form.locator("#new-password")).to_be_focused()
    expect(form.locator("#new-password")).to_have_attribute("aria-invalid", "true")
    form.locator("#new-password").fill(PASSWORD)
    form.locator("#new-name").fill("//")
    page.keyboard.press("Enter")
    expect(said).to_contain_text("That name cannot be used")
    expect(form.locator("#new-name")).to_be_focused()
    form.locator("#new-name").fill("Ben")
    page.keyboard.press("Enter")
    page.locator("#chat-input").wait_for()
    form = fill_in(open_page(), "ben", PASSWORD)
    expect(form.get_by_role("status")).to_contain_text("There is an account of that name already")


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (lambda route: route.abort("connectionrefused"), "The server does not answer."),
        (lambda route: route.fulfill(status=500, body="Internal Server Error"), "(error 500)"),
    ],
    ids=["away", "broken"],
)
def test_a_server_that_cannot_make_an_account_is_said_to_be_so(
    open_page: Open, how: Callable[[Route], None], sentence: str
) -> None:
    page = open_page()
    page.route("**/api/auth/register", lambda route: how(route))
    expect(fill_in(page, "Carl", PASSWORD).get_by_role("status")).to_contain_text(sentence)


def test_in_russian_an_account_is_made_in_russian(open_page: Open) -> None:
    page = open_page(locale="ru-RU", viewport=PHONE)
    form = fill_in(page, "Аня", COMMON, "Создать учётную запись")
    expect(form.get_by_role("status")).to_contain_text("Такой пароль попробуют одним из первых")
    assert fits(page)
    form.locator("#new-password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.locator("#chat-input").wait_for()
    expect(my_data(page, "ru-RU").section("Учётная запись")).to_contain_text("Вы вошли как Аня.")
    assert fits(page)


def test_where_accounts_are_made_by_the_owner_none_is_offered(ollama: Program, open_page: Open, tmp_path: Path) -> None:
    with server(tmp_path, OLLAMA_HOST=ollama.url, AUTH="password") as closed:
        page = open_page(closed.url)
        with page.expect_response("**/api/me"):
            page.reload()
        page.locator("#email").wait_for()
        expect(page.get_by_role("button", name="Create an account")).to_have_count(0)


def test_without_a_login_there_is_nobody_to_log_out(ollama: Program, open_page: Open, tmp_path: Path) -> None:
    with server(tmp_path, OLLAMA_HOST=ollama.url) as anonymous:
        page = open_page(anonymous.url)
        page.locator("#chat-input").wait_for()
        data = my_data(page)
        expect(data.section("Account")).to_have_count(0)
        expect(page.locator("#user-nav-button")).to_be_hidden()


def test_the_password_is_changed_and_the_old_one_is_good_no_more(open_page: Open) -> None:
    page = open_page()
    register(page, "Dora")
    elsewhere = open_page()
    sign_in(elsewhere, "Dora", PASSWORD)
    data = my_data(page)
    data.press("Change password…")
    form = question(page, "Change password").locator("form")
    old, new, said = form.locator("#old-password"), form.locator("#new-password"), form.get_by_role("status")
    assert [field.get_attribute("autocomplete") for field in (old, new)] == ["current-password", "new-password"]
    old.fill("not her password")
    new.fill(OTHER)
    page.keyboard.press("Enter")
    expect(said).to_contain_text("password is wrong")
    expect(old).to_be_focused()
    old.fill(PASSWORD)
    new.fill("short")
    page.keyboard.press("Enter")
    expect(said).to_contain_text("too short")
    expect(new).to_be_focused()
    new.fill(OTHER)
    form.get_by_role("button", name="Show: New password").click()
    expect(new).to_have_attribute("type", "text")
    form.get_by_role("button", name="Show: New password").click()
    expect(new).to_have_attribute("type", "password")
    form.locator("[type=submit]").click()
    data.says("The password is changed.")
    page.reload()
    page.locator("#chat-input").wait_for()
    elsewhere.reload()
    elsewhere.wait_for_url("**/login")
    sign_in(elsewhere, "Dora", OTHER)


def test_one_logs_out_everywhere(open_page: Open) -> None:
    page = open_page()
    register(page, "Eve")
    elsewhere = open_page()
    sign_in(elsewhere, "Eve", PASSWORD)
    my_data(page).press("Log out everywhere…")
    question(page, "Log out everywhere?").get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Log out everywhere…").click()
    answer(page, "Log out everywhere?", "Log out everywhere")
    page.wait_for_url("**/login")
    page.locator("#email").wait_for()
    elsewhere.reload()
    elsewhere.wait_for_url("**/login")


@pytest.fixture
def before(ollama: Program, open_page: Open, tmp_path: Path) -> Iterator[tuple[Page, Program]]:
    """A browser with a conversation from before its server had a login, and that server with one."""
    with server(tmp_path, OLLAMA_HOST=ollama.url) as anonymous:
        page = open_page(anonymous.url)
        page.locator("#chat-settings-open-modal").wait_for()
        Chat(page).ask("!echo long ago")
        page.wait_for_url("**/thread/*")
    with server(tmp_path, OLLAMA_HOST=ollama.url, AUTH="password", SIGNUP="on") as site:
        page.goto(site.url)  # cookies belong to a host, whatever its port
        page.locator("#email").wait_for()
        yield page, site


def test_conversations_from_before_come_into_the_account_if_it_is_wanted(before: tuple[Page, Program]) -> None:
    page, _ = before
    fill_in(page, "Flo", PASSWORD)
    with page.expect_navigation(url=re.compile("/$")):
        answer(page, BEFORE, "Take it")
    page.locator("#thread-history a", has_text="long ago").click()
    page.locator(".ai-message .prose", has_text="long ago").wait_for()
    page.reload()
    page.locator(".ai-message .prose", has_text="long ago").wait_for()
    expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.parametrize(("said", "again"), [("No", 0), ("Later", 1)])
def test_who_says_no_is_not_asked_again_and_who_says_later_is(
    before: tuple[Page, Program], said: str, again: int
) -> None:
    page, site = before
    fill_in(page, "Gus", PASSWORD)
    answer(page, BEFORE, said)
    expect(page.get_by_role("dialog")).to_have_count(0)
    with page.expect_response("**/api/me"):
        page.reload()
    page.locator("#chat-input").wait_for()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page = page.context.new_page()  # the next visit
    page.goto(site.url)
    page.locator("#user-nav-button").wait_for(timeout=PATIENCE)
    expect(page.get_by_role("dialog")).to_have_count(again)
    expect(page.locator("#thread-history a")).to_have_count(0)


def test_who_signs_in_by_the_form_is_asked_too(before: tuple[Page, Program], open_page: Open) -> None:
    page, site = before
    register(open_page(site.url), "Hal")
    sign_in(page, "Hal", PASSWORD)
    expect(question(page, BEFORE)).to_contain_text("1 conversation")
    assert fits(page)
