"""What a visitor does with conversations: saves them, brings them in, deletes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from playwright.sync_api import Download, Page, Route, expect

from tests.browser import Chat
from tests.page.conftest import World
from tests.windows import MyData, answer, fits, my_data, question

PHONE = {"width": 375, "height": 700}


def kept(world: World, *texts: str, **options: Any) -> Chat:
    """A browser with a conversation for each text."""
    chat = world.visit(world.server, **options)
    for text in texts:
        chat.page.goto(world.server.url)
        chat.page.locator("#chat-input").wait_for()
        chat.ask(f"!echo {text}")
        chat.page.wait_for_url("**/thread/*")
    return chat


def saved(data: MyData, label: str) -> Download:
    with data.page.expect_download() as download:
        data.press(label)
    return download.value


def everything(chat: Chat, path: Path) -> Path:
    """All conversations of a browser, as a file."""
    data = my_data(chat.page)
    saved(data, "Save all as zip").save_as(path)
    data.close()
    return path


def in_sidebar(page: Page) -> list[str]:
    return page.locator("#thread-history a").all_inner_texts()


def test_the_conversation_on_the_page_is_saved_as_markdown_and_as_json(world: World) -> None:
    data = my_data(kept(world, "another", "first words").page)
    markdown = saved(data, "Save as Markdown")
    assert markdown.suggested_filename.endswith("echo first words.md")
    data.says(f"Saved as {markdown.suggested_filename}.")
    text = markdown.path().read_text(encoding="utf-8")
    assert "first words" in text
    assert "another" not in text
    file = saved(data, "Save as JSON")
    assert file.suggested_filename.endswith("echo first words.json")
    assert "first words" in json.dumps(json.loads(file.path().read_text(encoding="utf-8")))


def test_where_the_page_shows_no_kept_conversation_none_is_offered(world: World, chat: Chat) -> None:
    data = my_data(chat.page)
    expect(data.section("All conversations")).to_contain_text("No conversation is kept here yet.")
    expect(data.section("This conversation")).to_have_count(0)
    expect(data.window.get_by_role("button", name="Save all as zip")).to_be_hidden()


def test_all_conversations_are_saved_and_another_browser_takes_them_in(world: World, tmp_path: Path) -> None:
    ann = kept(world, "one", "two")
    data = my_data(ann.page)
    expect(data.section("All conversations")).to_contain_text("2 conversations are kept here.")
    data.close()
    path = everything(ann, tmp_path / "all.zip")
    with ZipFile(path) as archive:
        assert len([name for name in archive.namelist() if name.endswith(".json") and "echo" in name]) == 2

    bob = world.visit(world.server)
    data = my_data(bob.page)
    data.window.locator("input[type=file]").set_input_files(path)
    data.says("2 conversations brought in.")
    with bob.page.expect_navigation():
        data.press("Show them")
    bob.page.locator("#thread-history a").nth(1).wait_for()
    assert {"!echo one", "!echo two"} == set(in_sidebar(bob.page))
    bob.page.get_by_text("!echo one").click()
    bob.page.locator(".ai-message .prose", has_text="one").wait_for()

    data = my_data(bob.page)
    data.window.locator("input[type=file]").set_input_files(path)
    data.says("Nothing new in it: 2 conversations were here already.")
    expect(data.window.get_by_role("button", name="Show them")).to_be_hidden()


def test_a_file_that_is_no_export_is_refused_in_the_servers_words(world: World, chat: Chat, tmp_path: Path) -> None:
    path = tmp_path / "holiday.zip"
    path.write_bytes(b"no zip at all")
    data = my_data(chat.page)
    data.window.locator("input[type=file]").set_input_files(path)
    data.says("That file is no export of this program")


def test_all_data_is_deleted_after_a_second_question_and_only_of_this_visitor(world: World) -> None:
    ann, bob = kept(world, "anns", "anns too"), kept(world, "bobs")
    data = my_data(ann.page)
    data.press("Delete all my data…")
    asked = question(ann.page, "Delete all my data?")
    expect(asked).to_contain_text("2 conversations")
    expect(asked).to_contain_text("cannot be undone")
    with ann.page.expect_download():
        asked.get_by_role("button", name="Save all as zip").click()
    expect(asked.get_by_role("status")).to_contain_text("Saved as")
    asked.get_by_role("button", name="Cancel").click()
    expect(data.section("All conversations")).to_contain_text("2 conversations are kept here.")
    data.press("Delete all my data…")
    with ann.page.expect_navigation():
        answer(ann.page, "Delete all my data?", "Delete everything")
    ann.page.get_by_text("Help with code").wait_for()
    assert ann.page.url == f"{world.server.url}/"
    expect(ann.page.locator("#thread-history a")).to_have_count(0)
    assert ann.ask("!echo on") == "on"
    bob.reload()
    bob.page.locator("#thread-history a").first.wait_for()
    assert in_sidebar(bob.page) == ["!echo bobs"]


@pytest.mark.parametrize("locale", ["en-US", "ru-RU"])
def test_on_a_phone_everything_is_within_the_screen(world: World, locale: str) -> None:
    chat = kept(world, "small", locale=locale, viewport=PHONE)
    my_data(chat.page, locale)
    assert fits(chat.page)
    chat.page.locator("[data-section=devices] button").first.click()
    expect(chat.page.locator(".box-link input")).to_be_visible()
    assert fits(chat.page)
    chat.page.locator("[data-section=all] .danger").click()
    expect(chat.page.locator(".box.question")).to_be_visible()
    assert fits(chat.page)
    assert re.search("[а-я]" if locale == "ru-RU" else "[a-z]", chat.page.locator(".box.question").inner_text())


def test_in_russian_the_window_is_russian(world: World, tmp_path: Path) -> None:
    chat = kept(world, "раз", "два", locale="ru-RU")
    data = my_data(chat.page, "ru-RU")
    expect(data.section("Все беседы")).to_contain_text("Здесь хранятся 2 беседы.")
    with chat.page.expect_download() as download:
        data.press("Сохранить все в zip")
    download.value.save_as(tmp_path / "all.zip")
    other = world.visit(world.server, locale="ru-RU")
    data = my_data(other.page, "ru-RU")
    data.window.locator("input[type=file]").set_input_files(tmp_path / "all.zip")
    data.says("Добавлены 2 беседы.")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    data.window.locator("input[type=file]").set_input_files(tmp_path / "other.json")
    data.says("не выгружен из этой программы")


def test_with_the_keyboard_alone_one_opens_it_deletes_all_and_comes_back(world: World) -> None:
    chat = kept(world, "by hand")
    page = chat.page
    focused = "document.activeElement.id || document.activeElement.textContent.trim()"

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == name:
                return
        raise AssertionError(f"the keyboard does not reach {name}")

    tab_to("my-data-button")
    page.keyboard.press("Enter")
    window = page.get_by_role("dialog", name="My data")
    expect(window.locator(".box-section").first).to_be_visible()
    for _ in range(20):  # round and round, but never out
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('.box')")
    page.keyboard.press("Escape")
    expect(window).to_have_count(0)
    assert page.evaluate(focused) == "my-data-button"
    page.keyboard.press("Enter")
    expect(window.locator(".box-section").first).to_be_visible()
    tab_to("Delete all my data…")
    page.keyboard.press("Enter")
    question(page, "Delete all my data?")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(1)
    assert page.evaluate(focused) == "Delete all my data…"
    page.keyboard.press("Enter")
    question(page, "Delete all my data?")
    tab_to("Delete everything")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    page.get_by_text("Help with code").wait_for()
    expect(page.locator("#thread-history a")).to_have_count(0)


def fault(how: str) -> Callable[[Route], None]:
    """A server that answers with an error of its own, or a proxy's, or not at all."""
    answers: dict[str, Callable[[Route], None]] = {
        "refused": lambda route: route.fulfill(status=409, json={"detail": "Not today.", "code": "history_off"}),
        "proxy": lambda route: route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>"),
        "away": lambda route: route.abort("connectionrefused"),
    }
    return answers[how]


SENTENCES = {
    "refused": "Not today.",
    "proxy": "The server could not do that (error 502). Try again in a while.",
    "away": "The server does not answer. Check the connection and try again.",
}


@pytest.mark.parametrize("how", list(SENTENCES))
def test_what_the_server_does_not_do_is_said_in_a_sentence(world: World, tmp_path: Path, how: str) -> None:
    page = kept(world, "kept").page
    data = my_data(page)
    page.route("**/api/me/**", fault(how))
    for label in ("Save as Markdown", "Save all as zip", "Make a link"):
        data.press(label)
        data.says(SENTENCES[how])
        data.close()
        page.unroute("**/api/me/**")
        data = my_data(page)
        page.route("**/api/me/**", fault(how))
    (tmp_path / "some.zip").write_bytes(b"x")
    data.window.locator("input[type=file]").set_input_files(tmp_path / "some.zip")
    data.says(SENTENCES[how])
    expect(data.window.get_by_role("progressbar")).to_be_hidden()
    data.press("Delete all my data…")
    answer(page, "Delete all my data?", "Delete everything")
    expect(question(page, "Delete all my data?").get_by_role("status")).to_have_text(SENTENCES[how])
    page.unroute("**/api/me/**")
    with page.expect_navigation():
        answer(page, "Delete all my data?", "Delete everything")  # the question is still there


def test_a_window_that_could_not_be_filled_is_tried_again(world: World, chat: Chat) -> None:
    chat.page.route("**/api/me", fault("away"))
    chat.page.get_by_role("button", name="My data").click()
    window = chat.page.get_by_role("dialog", name="My data")
    expect(window.get_by_role("status")).to_have_text(SENTENCES["away"])
    chat.page.unroute("**/api/me")
    window.get_by_role("button", name="Try again").click()
    expect(window.get_by_role("heading", name="All conversations")).to_be_visible()


def test_the_progress_of_an_import_is_shown(world: World, chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "some.zip").write_bytes(b"x" * 1000)
    held: list[Route] = []
    chat.page.route("**/api/me/import", lambda route: held.append(route))
    data = my_data(chat.page)
    data.window.locator("input[type=file]").set_input_files(tmp_path / "some.zip")
    expect(data.window.get_by_role("progressbar")).to_be_visible()
    expect(data.window.get_by_role("button", name="Bring an export in…")).to_have_attribute("aria-disabled", "true")
    held[0].fulfill(json={"imported": 12, "skipped": 3})
    data.says("12 conversations brought in, 3 were here already.")


def test_both_languages_say_the_same_things(chat: Chat) -> None:
    shape = """async () => {
        const shape = (words) => typeof words === 'object'
            ? Object.fromEntries(Object.entries(words).map(([key, value]) => [key, shape(value)]))
            : typeof words === 'function' ? `function of ${words.length}` : 'text';
        const both = [import('/public/page/words-en.js'), import('/public/page/words-ru.js')];
        return (await Promise.all(both)).map((module) => shape(module.default));
    }"""
    english, russian = chat.page.evaluate(shape)
    assert english == russian
    assert "data" in english


def test_where_nothing_is_kept_the_window_says_so_and_offers_nothing(chat: Chat) -> None:
    def keeps_nothing(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"history": False})

    chat.page.route("**/api/me", keeps_nothing)
    chat.page.get_by_role("button", name="My data").click()
    window = chat.page.get_by_role("dialog", name="My data")
    expect(window).to_contain_text("This server keeps no conversations.")
    expect(window.get_by_role("button")).to_have_count(1)  # Close
