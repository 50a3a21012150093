"""What a visitor thinks of a reply, from the click to the file for training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from playwright.sync_api import expect

from tests.browser import Chat
from tests.page.conftest import World
from tests.site import clean_environment


def thumb(chat: Chat, name: str) -> None:
    """Click one; `up` and `down`, with `-off` and `-on` for whether it is given."""
    side, _, state = name.partition("-")
    chat.page.locator(f".{'positive' if side == 'up' else 'negative'}-feedback-{state}").last.click()


def given(chat: Chat, side: str) -> None:
    """Wait until that thumb is shown as given."""
    expect(chat.page.locator(f".{'positive' if side == 'up' else 'negative'}-feedback-on")).to_have_count(1)


def lines(world: World, prompt: str) -> list[dict[str, Any]]:
    """What `python -m app.feedback` writes of the answers to that question."""
    folder = world.server.log.parent
    done = subprocess.run(
        [sys.executable, "-m", "app.feedback"],
        env=clean_environment(DATA_DIR=os.fspath(folder / "data")),
        cwd=folder,
        capture_output=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.decode().splitlines()]
    return [line for line in found if line["prompt"] == prompt]


def test_a_thumb_with_a_comment_is_in_the_file(world: World, chat: Chat) -> None:
    chat.ask("!echo first")
    chat.ask("!echo thumbs 👍")
    thumb(chat, "up-off")
    chat.page.get_by_placeholder("Your feedback...").fill("Точно то, что нужно")
    chat.page.locator("#submit-feedback").click()
    given(chat, "up")
    (line,) = lines(world, "!echo thumbs 👍")
    assert (line["thumb"], line["comment"], line["reply"]) == ("up", "Точно то, что нужно", "thumbs 👍")
    assert line["model"] == "ollama/gemma2:2b"
    assert [message["content"] for message in line["messages"]] == ["!echo first", "first"]
    chat.reload()
    given(chat, "up")


def test_a_thumb_is_changed_and_taken_back(world: World, chat: Chat) -> None:
    chat.ask("!echo changed")
    thumb(chat, "down-off")
    chat.page.locator("#submit-feedback").click()
    given(chat, "down")
    assert [line["thumb"] for line in lines(world, "!echo changed")] == ["down"]
    thumb(chat, "up-off")
    chat.page.locator("#submit-feedback").click()
    given(chat, "up")
    assert [line["thumb"] for line in lines(world, "!echo changed")] == ["up"]
    thumb(chat, "up-on")
    expect(chat.page.locator(".positive-feedback-on")).to_have_count(0)
    assert lines(world, "!echo changed") == []
