"""Personal links: the same conversations in another browser, without a login."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import PATIENCE, Chat
from tests.site import Program, fake_ollama, server
from tests.windows import MyData, answer, fits, my_data, question

JOIN = "Open the history of your other device in this browser?"
OWN = "of its own"
PHONE = {"width": 375, "height": 700}

Visit = Callable[..., Chat]


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One where links may be tried often."""
    folder = tmp_path_factory.mktemp("devices")
    with (
        fake_ollama(folder, "--speedup", "100") as ollama,
        server(folder, OLLAMA_HOST=ollama.url, LOGIN_TRIES="1000") as program,
    ):
        yield program


def talked(visit: Visit, site: Program, text: str, **options: Any) -> Chat:
    chat = visit(site, **options)
    chat.ask(f"!echo {text}")
    chat.page.wait_for_url("**/thread/*")
    return chat


def link_of(data: MyData) -> str:
    """A new one, as the page shows it."""
    data.press("Make a link")
    return data.window.get_by_label("Your link").input_value()


def new_link(chat: Chat) -> str:
    data = my_data(chat.page)
    link = link_of(data)
    data.close()
    return link


def follow(chat: Chat, link: str) -> None:
    """Open a link in a browser that has been here, and wait until its page is not loaded anew any more."""
    chat.page.goto("about:blank")
    chat.page.goto(link)
    settle(chat.page)


def join(chat: Chat, link: str) -> None:
    """Open a link and say yes; the browser has no conversations of its own."""
    follow(chat, link)
    with chat.page.expect_navigation(url=re.compile("/$")):
        answer(chat.page, JOIN, "Yes")
    settle(chat.page)


def settle(page: Page) -> None:
    """Wait until the visitor is let in and the server has spoken; before that the page may still be loaded anew."""
    page.locator("#chat-settings-open-modal").wait_for(timeout=PATIENCE)


def expect_sidebar(chat: Chat, titles: set[str]) -> None:
    """The page may still be on its way to another one, so they are waited for."""
    links = chat.page.locator("#thread-history a")
    for title in titles:
        expect(links.filter(has_text=title)).to_have_count(1)
    expect(links).to_have_count(len(titles))


@pytest.mark.parametrize("viewport", [{"width": 1100, "height": 800}, PHONE], ids=["computer", "phone"])
def test_a_link_opens_the_conversations_in_a_browser_that_has_never_been_here(
    browser: Browser, visit: Visit, site: Program, viewport: Any
) -> None:
    ann = talked(visit, site, "from here")
    data = my_data(ann.page)
    link = link_of(data)
    assert link.startswith(f"{site.url}/#join=")
    expect(data.window).to_contain_text("Whoever has it sees all your conversations")
    expect(data.window.get_by_role("button", name=re.compile("^Revoke the link made"))).to_have_count(1)
    context = browser.new_context(locale="en-US", viewport=viewport)
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(link)
        question(page, JOIN)
        assert "join" not in page.url
        assert fits(page)
        with page.expect_navigation(url=re.compile("/$")):
            answer(page, JOIN, "Yes")
        settle(page)
        assert my_data(page).section("Other devices").get_by_text("another one").is_visible()
        page.goto(ann.page.url)
        page.locator(".ai-message .prose", has_text="from here").wait_for()
        Chat(page).ask("!echo and from there")
    finally:
        context.close()
    assert link.partition("=")[2] not in site.text()
    ann.reload()
    ann.page.locator(".ai-message .prose", has_text="and from there").wait_for()


def test_who_says_no_keeps_what_was_there(visit: Visit, site: Program) -> None:
    ann, bob = talked(visit, site, "anns"), talked(visit, site, "bobs")
    follow(bob, new_link(ann))
    answer(bob.page, JOIN, "No")
    expect(bob.page.get_by_role("dialog")).to_have_count(0)
    bob.reload()
    expect_sidebar(bob, {"!echo bobs"})


def test_a_link_put_into_the_address_of_an_open_page_is_asked_about_too(visit: Visit, site: Program) -> None:
    ann, bob = talked(visit, site, "anns"), talked(visit, site, "bobs")
    link = new_link(ann)
    was = bob.page.url
    bob.page.evaluate("(hash) => { location.hash = hash }", link.partition("#")[2])
    question(bob.page, JOIN)
    assert bob.page.url == was


def test_conversations_of_the_browser_come_along_if_it_is_wanted(visit: Visit, site: Program) -> None:
    ann, bob = talked(visit, site, "anns"), talked(visit, site, "bobs")
    follow(bob, new_link(ann))
    answer(bob.page, JOIN, "Yes")
    with bob.page.expect_navigation(url=re.compile("/$")):
        answer(bob.page, OWN, "Take it")
    expect_sidebar(bob, {"!echo anns", "!echo bobs"})
    ann.reload()
    expect_sidebar(ann, {"!echo anns", "!echo bobs"})


@pytest.mark.parametrize(("said", "again"), [("No", False), ("Later", True)])
def test_conversations_that_do_not_come_along_are_there_again_when_one_leaves(
    visit: Visit, site: Program, said: str, again: bool
) -> None:
    ann, bob = talked(visit, site, "anns"), talked(visit, site, "bobs")
    follow(bob, new_link(ann))
    answer(bob.page, JOIN, "Yes")
    with bob.page.expect_navigation(url=re.compile("/$")):
        answer(bob.page, OWN, said)
    expect_sidebar(bob, {"!echo anns"})
    expect(bob.page.get_by_role("dialog")).to_have_count(0)
    later = bob.page.context.new_page()  # another visit
    later.goto(site.url)
    with later.expect_response("**/api/me"):
        later.reload()
    expect(later.get_by_role("dialog")).to_have_count(int(again))
    later.close()
    data = my_data(bob.page)
    data.press("Leave…")
    with bob.page.expect_navigation(url=re.compile("/$")):
        answer(bob.page, "Leave these conversations?", "Leave")
    expect_sidebar(bob, {"!echo bobs"})
    expect(my_data(bob.page).window.get_by_role("button", name="Leave…")).to_have_count(0)


def test_a_revoked_link_opens_nothing_and_says_so(visit: Visit, site: Program) -> None:
    ann, bob = talked(visit, site, "anns"), talked(visit, site, "bobs")
    link = new_link(ann)
    data = my_data(ann.page)
    expect(data.window.get_by_role("listitem")).to_have_count(1)
    data.window.get_by_role("button", name=re.compile("^Revoke the link made")).click()
    expect(data.window.get_by_role("listitem")).to_have_count(0)
    follow(bob, link)
    answer(bob.page, JOIN, "Yes")
    asked = question(bob.page, JOIN)
    expect(asked.get_by_role("status")).to_have_text(
        "That link does not work any more. Make a new one where it came from."
    )
    asked.get_by_role("button", name="No", exact=True).click()
    bob.reload()
    expect_sidebar(bob, {"!echo bobs"})


def test_a_link_that_is_revoked_at_once_is_shown_no_more(visit: Visit, site: Program) -> None:
    data = my_data(visit(site).page)
    link_of(data)
    data.window.get_by_role("button", name=re.compile("^Revoke the link made")).click()
    expect(data.window.get_by_role("listitem")).to_have_count(0)
    expect(data.window.get_by_label("Your link")).to_have_count(0)


def test_the_link_of_ones_own_browser_is_said_to_be_that(visit: Visit, site: Program) -> None:
    ann = talked(visit, site, "anns")
    follow(ann, new_link(ann))
    answer(ann.page, JOIN, "Yes")
    expect(question(ann.page, JOIN).get_by_role("status")).to_have_text("This browser has those conversations already.")


def test_a_browser_that_is_removed_has_its_own_conversations_again(visit: Visit, site: Program) -> None:
    ann = talked(visit, site, "anns")
    bob = visit(site)
    join(bob, new_link(ann))
    expect_sidebar(bob, {"!echo anns"})
    joined = my_data(bob.page)
    expect(joined.window.get_by_role("button", name=re.compile("^(Make a link|Remove|Revoke)"))).to_have_count(0)
    joined.close()
    data = my_data(ann.page)
    link = link_of(data)
    entry = data.window.get_by_role("listitem").filter(has_text="since")
    expect(entry).to_contain_text("Chrome")
    entry.get_by_role("button", name=re.compile("^Remove Chrome")).click()
    expect(entry).to_have_count(0)
    expect(data.window.get_by_role("listitem")).to_have_count(0)  # no link is left
    expect(data.window.get_by_label("Your link")).to_have_count(0)
    bob.page.goto(site.url)
    settle(bob.page)
    expect(bob.page.locator("#thread-history a")).to_have_count(0)
    bob.page.goto(ann.page.url)
    expect(bob.page.get_by_text("anns")).to_have_count(0)
    expect_sidebar(ann, {"!echo anns"})
    follow(bob, link)
    answer(bob.page, JOIN, "Yes")
    expect(question(bob.page, JOIN).get_by_role("status")).to_contain_text("does not work any more")


def test_deleting_all_data_closes_the_other_browser(visit: Visit, site: Program) -> None:
    ann = talked(visit, site, "anns")
    bob = visit(site)
    join(bob, new_link(ann))
    data = my_data(bob.page)
    data.press("Delete all my data…")
    expect(question(bob.page, "Delete all my data?")).to_contain_text("gone in your other browsers too")
    with bob.page.expect_navigation():
        answer(bob.page, "Delete all my data?", "Delete everything")
    settle(bob.page)
    expect(my_data(bob.page).section("Other devices")).not_to_contain_text("another one")
    ann.page.goto(site.url)
    settle(ann.page)
    expect(ann.page.locator("#thread-history a")).to_have_count(0)


def pasted(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_the_link_is_copied_with_one_button(visit: Visit, site: Program) -> None:
    chat = visit(site, permissions=["clipboard-read", "clipboard-write"])
    data = my_data(chat.page)
    link = link_of(data)
    data.press("Copy")
    data.says("Copied.")
    assert pasted(chat.page) == link


def test_where_the_browser_copies_nothing_the_link_is_left_selected(visit: Visit, site: Program) -> None:
    chat = visit(site)
    data = my_data(chat.page)
    link = link_of(data)
    chat.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    data.press("Copy")
    data.says("copy it by hand")
    assert chat.page.evaluate("String(getSelection())") == link


def test_in_russian_one_is_asked_in_russian(visit: Visit, site: Program) -> None:
    ann, bob = talked(visit, site, "раз", locale="ru-RU"), talked(visit, site, "два", locale="ru-RU")
    data = my_data(ann.page, "ru-RU")
    data.press("Создать ссылку")
    follow(bob, data.window.get_by_label("Ваша ссылка").input_value())
    answer(bob.page, "Открыть в этом браузере", "Да")
    with bob.page.expect_navigation(url=re.compile("/$")):
        answer(bob.page, "уже хранится 1 беседа", "Перенести")
    expect_sidebar(bob, {"!echo раз", "!echo два"})
    follow(bob, f"{site.url}/#join={'x' * 43}")
    answer(bob.page, "Открыть в этом браузере", "Да")
    expect(question(bob.page, "Открыть в этом браузере").get_by_role("status")).to_contain_text("не действует")
