"""What a visitor does on the page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser import PATIENCE, Chat
from tests.page.conftest import World


def test_a_first_visit_shows_starters_and_which_model_answers(chat: Chat) -> None:
    expect(chat.page.get_by_text("Help with code")).to_be_visible()
    banner = chat.page.get_by_test_id("status-banner")
    expect(banner).to_contain_text("gemma2:2b answers")
    banner.get_by_role("button", name="gemma2:2b").click()
    expect(banner).to_contain_text("ollama pull")


def test_a_starter_starts_a_conversation(chat: Chat) -> None:
    chat.page.get_by_text("Write a friendly email").click()
    chat.status("finished")
    assert "You said: Write a short, friendly email" in chat.replies()[-1]


def test_a_reply_is_seen_growing(chat: Chat) -> None:
    chat.say("!words 120")
    content = chat.page.locator(".ai-message .prose").last
    content.filter(has_text="the quick").wait_for()
    early = len(content.inner_text())
    chat.status("finished")
    assert early < len(content.inner_text()) == len(content.inner_text().strip())
    assert len(content.inner_text().split()) == 120


def test_the_line_under_a_reply_tells_what_it_took_and_survives_a_reload(chat: Chat) -> None:
    chat.ask("!words 30")
    parts = [
        "gemma2:2b",
        r"[\d.]+ s",
        r"first token [\d.]+ s",
        "30 tokens",
        r"[\d.]+ tok/s",
        "135 chars",
        "context 1 %",
    ]
    for reload in (False, True):
        if reload:
            chat.reload()
        shown = chat.status("finished").locator(".reply-parts > span").all_inner_texts()
        assert len(shown) == len(parts)
        assert all(re.fullmatch(part, text) for part, text in zip(parts, shown, strict=True))


def test_a_reload_in_the_middle_of_a_reply_loses_nothing(chat: Chat) -> None:
    chat.say("!words 700")  # a page may take seconds to load
    chat.page.locator(".ai-message .prose").filter(has_text="the quick").wait_for()
    chat.page.wait_for_url("**/thread/*")
    chat.reload()
    chat.page.locator(".ai-message .prose").filter(has_text="the quick").wait_for()
    assert chat.page.locator("#stop-button").count() == 1
    chat.status("finished")
    assert len(chat.replies()[-1].split()) == 700
    chat.ask("!echo and on")
    assert [len(reply.split()) for reply in chat.replies()] == [700, 2]


def test_copying_a_reply_does_not_copy_the_line_under_it(chat: Chat) -> None:
    chat.ask("!echo only this")
    chat.page.locator(".ai-message").last.click(click_count=3)
    chat.page.keyboard.press("Control+A")
    selected = chat.page.evaluate("String(window.getSelection())")
    assert "only this" in selected
    assert "tok/s" not in selected


def test_stop_ends_the_reply_keeps_its_text_and_frees_the_model(world: World, chat: Chat) -> None:
    before = world.ollama.get("/_fake/state")["cancelled"]
    chat.say("!words 400")
    chat.page.locator(".ai-message .prose").filter(has_text="the quick").wait_for()
    chat.page.locator("#stop-button").click()
    line = chat.status("stopped")
    assert "stopped" in line.inner_text()
    assert "the quick brown" in chat.replies()[-1]
    assert world.ollama.get("/_fake/state")["cancelled"] == before + 1
    chat.reload()
    chat.status("stopped")
    assert "the quick brown" in chat.replies()[-1]


def test_after_stop_the_conversation_goes_on_with_what_was_written(world: World, chat: Chat) -> None:
    chat.say("!words 400")
    chat.page.locator(".ai-message .prose").filter(has_text="the quick").wait_for()
    chat.page.locator("#stop-button").click()
    chat.status("stopped")
    chat.ask("!echo next")
    sent = world.ollama.get("/_fake/state")["requests"][-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"].startswith("the quick brown")


def test_an_edited_message_is_answered_anew_and_what_came_after_is_gone(world: World, chat: Chat) -> None:
    chat.ask("!echo one")
    chat.ask("!echo two")
    first = chat.page.locator(".message-content", has_text="!echo one").first
    first.hover()
    chat.page.locator(".edit-message").first.click()
    chat.page.locator("#edit-chat-input").fill("!echo changed")
    chat.page.locator(".confirm-edit").click()
    chat.page.locator(".ai-message", has_text="changed").wait_for()
    chat.status("finished")
    assert chat.replies() == ["changed"]
    chat.reload()
    chat.page.locator(".ai-message", has_text="changed").wait_for()
    assert chat.replies() == ["changed"]
    chat.ask("!echo three")
    sent = world.ollama.get("/_fake/state")["requests"][-1]["messages"]
    assert [message["content"] for message in sent] == ["!echo changed", "changed", "!echo three"]


def test_another_answer_that_fails_leaves_the_old_one(world: World, chat: Chat) -> None:
    assert chat.ask("!echo worth keeping") == "worth keeping"
    world.ollama.post("/_fake/script", {"replies": ["!500"]})
    chat.retry()
    chat.wait_for("something inside failed")
    assert chat.replies()[0] == "worth keeping"
    chat.reload()
    chat.wait_for("something inside failed")
    assert chat.replies()[0] == "worth keeping"


def test_another_answer_takes_the_place_of_the_last_one(chat: Chat) -> None:
    chat.ask("!words 12")
    old = chat.page.locator(".ai-message").element_handle()
    chat.retry()
    chat.page.wait_for_function("old => !old.isConnected", arg=old)
    chat.status("finished")
    assert len(chat.replies()) == 1
    chat.reload()
    chat.status("finished")
    assert len(chat.replies()) == 1


def test_reasoning_is_folded_away_and_not_sent_back(world: World, chat: Chat) -> None:
    chat.settings()
    dialog = chat.page.locator("#chat-settings")
    dialog.locator("#model").click()
    chat.page.get_by_role("option", name="qwen3:0.6b").click()
    dialog.locator("#think").click()
    chat.page.locator("#confirm").click()
    dialog.wait_for(state="hidden")
    answer = chat.ask("!think 40")
    assert answer.strip() == "The answer is forty-two."
    step = chat.page.get_by_role("button", name=re.compile("Thinking"))
    expect(step).to_be_visible()
    expect(chat.page.get_by_text("the quick brown fox")).to_be_hidden()
    chat.ask("!echo next")
    sent = world.ollama.get("/_fake/state")["requests"][-1]["messages"]
    assert sent[1]["content"] == "The answer is forty-two."
    chat.reload()
    expect(chat.page.get_by_role("button", name=re.compile("Thinking"))).to_be_visible()


def test_settings_count_from_the_next_message_and_survive_a_reload(world: World, chat: Chat) -> None:
    chat.settings()
    dialog = chat.page.locator("#chat-settings")
    dialog.locator("#model").click()
    chat.page.get_by_role("option", name=re.compile("phi3:latest · Ollama · 1.6 GB")).click()
    dialog.locator("#system_prompt").fill("Be brief.")
    chat.page.locator("#confirm").click()
    dialog.wait_for(state="hidden")
    chat.ask("!echo hello")
    assert "phi3:latest" in chat.status("finished").inner_text()
    for reload in (False, True):
        if reload:
            chat.reload()
            chat.ask("!echo again")
        sent = world.ollama.get("/_fake/state")["requests"][-1]
        assert sent["model"] == "phi3:latest"
        assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    chat.settings()
    expect(chat.page.locator("#system_prompt")).to_have_value("Be brief.")


def test_the_model_picker_follows_models_that_come_and_go(world: World, chat: Chat) -> None:
    names = [model["name"] for model in world.ollama.get("/api/tags")["models"]]
    world.ollama.post("/_fake/models", {"models": [*names, "brand-new:1b"]})
    try:
        chat.page.wait_for_timeout(2500)  # the server looks once a second here
        chat.settings()
        chat.page.locator("#model").click()
        expect(chat.page.get_by_role("option", name=re.compile("brand-new:1b"))).to_be_visible()
    finally:
        world.ollama.post("/_fake/models", {"models": names})


def test_a_model_that_vanished_between_pick_and_send_is_told_with_what_there_is(world: World, chat: Chat) -> None:
    chat.settings()
    chat.page.locator("#model").click()
    chat.page.get_by_role("option", name=re.compile("phi3:latest")).click()
    chat.page.locator("#confirm").click()
    chat.page.locator("#chat-settings").wait_for(state="hidden")
    names = [model["name"] for model in world.ollama.get("/api/tags")["models"]]
    world.ollama.post("/_fake/models", {"models": [name for name in names if name != "phi3:latest"]})
    try:
        chat.say("!echo anybody there")
        chat.status("failed")
        assert "phi3:latest" in chat.replies()[-1]
        assert "gemma2:2b" in chat.replies()[-1] or "ollama pull" in chat.replies()[-1]
    finally:
        world.ollama.post("/_fake/models", {"models": names})


def test_two_browsers_have_conversations_of_their_own(world: World) -> None:
    one, two = world.visit(world.server), world.visit(world.server)
    one.ask("!echo secret of one")
    two.ask("!echo secret of two")
    for chat, own, other in ((one, "secret of one", "secret of two"), (two, "secret of two", "secret of one")):
        chat.reload()
        chat.page.get_by_text(own).first.wait_for()
        assert other not in chat.page.content()
    stolen = one.page.url
    two.page.goto(stolen)
    two.page.wait_for_timeout(1500)
    assert "secret of one" not in two.page.content()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("!die", "stopped while it was working"),
        ("!cut", "broke in the middle of the reply"),
        ("!error strange trouble", "strange trouble"),
    ],
)
def test_a_reply_that_breaks_keeps_its_text_and_offers_to_try_again(chat: Chat, message: str, words: str) -> None:
    chat.say(message)
    chat.page.get_by_test_id("retry").wait_for()
    texts = chat.replies()
    assert "the quick brown fox" in texts[0]
    assert words in texts[-1]
    assert "Traceback" not in chat.page.content()
    chat.reload()
    chat.page.get_by_test_id("retry").wait_for()
    assert chat.replies() == texts


def test_an_internal_error_of_ollama_is_told_and_can_be_tried_again(chat: Chat) -> None:
    chat.say("!500")
    chat.page.get_by_test_id("retry").wait_for()
    assert "something inside failed" in chat.replies()[-1]
    old = chat.page.locator(".ai-message").element_handle()
    chat.retry()
    chat.page.wait_for_function("old => !old.isConnected", arg=old)
    chat.page.get_by_test_id("retry").wait_for()
    assert len(chat.replies()) == 1


def test_a_reply_that_repeats_itself_is_kept_and_told_so(chat: Chat) -> None:
    chat.ask("!repeat")
    expect(chat.page.get_by_test_id("reply-note")).to_contain_text("repeat itself")


def test_while_a_long_prompt_is_read_the_visitor_sees_for_how_long(chat: Chat) -> None:
    chat.say("word " * 1200)
    line = chat.status("reading")
    expect(line).to_contain_text(re.compile(r"reading your message, about \d+ s"))
    chat.page.locator("#stop-button").click()
    chat.status("stopped")


def test_a_message_of_100_kb_is_refused_with_both_numbers_and_nothing_is_lost(chat: Chat) -> None:
    chat.ask("!echo before")
    chat.say("long " * 20_000)
    chat.status("failed")
    assert re.search(r"[\d,]+ tokens; this model can read at most [\d,]+", chat.replies()[-1])
    chat.ask("!echo after")
    assert chat.replies()[0] == "before"


def test_what_is_written_is_shown_as_text_in_both_directions(chat: Chat) -> None:
    evil = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'> [x](javascript:window.hacked=1)"
    chat.ask(f"!echo {evil}")
    chat.page.wait_for_timeout(300)
    assert chat.page.evaluate("window.hacked") is None
    for link in chat.page.locator(".message-content a").all():
        assert not (link.get_attribute("href") or "").lower().startswith("javascript:")
    assert chat.page.locator(".message-content script, .message-content img").count() == 0


def test_markdown_and_code_are_drawn_with_a_copy_button(chat: Chat) -> None:
    chat.ask("!code")
    block = chat.page.locator(".ai-message pre, .ai-message .code-block, .ai-message code").first
    expect(block).to_contain_text("def hello")
    assert chat.page.locator(".ai-message button").count() >= 2
    chat.ask("!markdown")
    expect(chat.page.locator(".ai-message h1, .ai-message h2").last).to_have_text("Title")


def test_a_new_chat_begins_empty_and_the_old_one_is_in_the_sidebar(world: World, chat: Chat) -> None:
    chat.ask("!echo remember the heron")
    chat.page.locator("#new-chat-button").first.click()
    chat.page.wait_for_function("document.querySelectorAll('.ai-message').length === 0")
    chat.ask("!echo fresh")
    sent = world.ollama.get("/_fake/state")["requests"][-1]["messages"]
    assert len(sent) == 1
    chat.page.get_by_text("!echo remember the heron").first.click()
    chat.page.locator(".ai-message", has_text="remember the heron").wait_for()
    chat.ask("!echo back")
    sent = world.ollama.get("/_fake/state")["requests"][-1]["messages"]
    assert [message["content"] for message in sent][1:] == ["remember the heron", "!echo back"]


def test_a_russian_browser_gets_a_russian_page(world: World) -> None:
    chat = world.visit(world.server, locale="ru-RU")
    expect(chat.page.get_by_text("Помоги с кодом")).to_be_visible()
    expect(chat.page.get_by_test_id("status-banner")).to_contain_text("Отвечает gemma2:2b")
    chat.say("!die")
    chat.page.get_by_test_id("retry").wait_for()
    assert "остановилась" in chat.replies()[-1]
    expect(chat.page.get_by_test_id("retry")).to_contain_text("Повторить")
    chat.settings()
    expect(chat.page.get_by_text("Системная подсказка")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_at_phone_width(world: World, scheme: str) -> None:
    chat = world.visit(world.server, viewport={"width": 375, "height": 720}, color_scheme=scheme)
    chat.ask("!code")
    chat.ask("!echo " + "Donaudampfschifffahrtsgesellschaft" * 4)
    assert chat.page.evaluate("document.documentElement.scrollWidth") <= 375
    for selector in ("#chat-input", "#chat-settings-open-modal", '[data-testid="status-banner"]'):
        box = chat.page.locator(selector).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375


def test_the_page_asks_nobody_else_for_anything(world: World) -> None:
    chat = world.visit(world.server)
    asked: list[str] = []
    chat.page.on("request", lambda request: asked.append(request.url))
    chat.reload()
    chat.ask("!code")
    foreign = [url for url in asked if not url.startswith((world.server.url, "data:", "blob:", "ws://127.0.0.1"))]
    assert foreign == []


def test_a_second_message_from_another_tab_does_not_mix_with_the_first(world: World, chat: Chat) -> None:
    chat.ask("!echo start")
    other = Chat(chat.page.context.new_page())
    other.page.goto(chat.page.url)
    other.page.locator(".ai-message", has_text="start").wait_for(timeout=PATIENCE)
    chat.say("!words 60")
    other.say("!echo from the other tab")
    other.status("finished")
    chat.status("finished")
    other.page.locator(".ai-message", has_text="from the other tab").wait_for(timeout=PATIENCE)
    assert len(chat.replies()[-1].split()) == 60
