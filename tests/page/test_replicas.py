"""Two replicas on one PostgreSQL behind nginx, with deploy/nginx-replicas.conf; one of them dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import PATIENCE, Chat
from tests.nginx import nginx
from tests.postgres import Postgres, wait_for
from tests.site import Program, fake_ollama, free_port, server

KEY = "one-key-for-all-replicas-0123456789"
Visit = Callable[..., Chat]


@dataclass
class Replicas:
    """What stands behind the proxy; the order is that of the configuration."""

    proxy: Program
    folder: Path
    settings: dict[str, str]
    running: list[Program]
    ports: list[int]
    stack: ExitStack

    def of(self, words: str) -> int:
        """Which one has answered: the only one that told of a reply."""
        told = [n for n, replica in enumerate(self.running) if " finished " in replica.text()]
        assert len(told) == 1, words
        return told[0]

    def start(self, n: int) -> None:
        settings = self.settings
        self.running[n] = self.stack.enter_context(server(self.folder, PORT=str(self.ports[n]), **settings))


@pytest.fixture
def replicas(postgres: Postgres, tmp_path: Path) -> Iterator[Replicas]:
    url = postgres.url(wait_for(postgres.new_database))
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        ollama = stack.enter_context(fake_ollama(tmp_path, "--load-seconds", "0", "--speedup", "2"))
        settings = {"OLLAMA_HOST": ollama.url, "DATABASE_URL": url, "SECRET_KEY": KEY, "STORE_SECONDS": "0.2"}
        running = [stack.enter_context(server(tmp_path, PORT=str(port), **settings)) for port in ports]
        places = {
            f"server 127.0.0.1:800{n} max_fails=1 fail_timeout=5s;": f"server 127.0.0.1:{port} fail_timeout=1s;"
            for n, port in enumerate(ports, 1)
        }
        proxy, _ = stack.enter_context(nginx(tmp_path, "nginx-replicas.conf", places))
        yield Replicas(proxy, tmp_path, settings, running, ports, stack)


def test_a_visitor_whose_replica_is_killed_goes_on_with_the_other_one(visit: Visit, replicas: Replicas) -> None:
    chat = visit(replicas.proxy, ignore_https_errors=True)
    assert chat.ask("!echo one") == "one"
    first = replicas.of("one")
    other = 1 - first
    replicas.running[first].kill()
    # Nothing is loaded anew: the page itself finds the other replica, and what is typed meanwhile stays.
    chat.page.locator("#chat-input").fill("a thought")
    answered = chat.page.wait_for_event("websocket", timeout=PATIENCE)
    answered.wait_for_event("framereceived", lambda frame: "resume_thread" in str(frame), timeout=PATIENCE)
    expect(chat.page.locator("#chat-input")).to_have_text("a thought")
    assert chat.ask("!echo two") == "two"
    assert chat.replies() == ["one", "two"]
    assert " finished " in replicas.running[other].text()
    # The model has read all of the conversation: the question and the answer of before, too.
    chat.reload()
    chat.page.locator(".ai-message .prose", has_text="two").wait_for(timeout=PATIENCE)
    assert chat.replies() == ["one", "two"]
    expect(chat.page.locator("#chat-settings-open-modal")).to_be_visible()

    # Once it is back, new requests go to it; the page that is open elsewhere can still be clicked on.
    replicas.start(first)
    chat.page.wait_for_timeout(
        1500
    )  # nginx leaves a dead one alone for a second here, and tells nobody when it is over
    chat.retry()
    expect(chat.page.locator('[data-phase="finished"]')).to_have_count(2, timeout=PATIENCE)
    chat.reload()
    chat.page.locator(".ai-message .prose", has_text="two").wait_for(timeout=PATIENCE)
    assert chat.replies() == ["one", "two"]


def test_a_reply_whose_replica_is_killed_is_kept_as_far_as_it_was_stored_and_can_be_asked_for_again(
    visit: Visit, replicas: Replicas
) -> None:
    chat = visit(replicas.proxy, ignore_https_errors=True)
    assert chat.ask("!echo one") == "one"
    first = replicas.of("one")
    chat.say("!words 60")
    chat.page.locator(".ai-message .prose", has_text="over a lazy dog and then").wait_for(timeout=PATIENCE)
    replicas.running[first].kill()
    chat.status("stopped")
    assert chat.replies()[0] == "one"
    assert chat.replies()[1].startswith("the quick")
    expect(chat.page.locator("#stop-button")).to_have_count(0)
    chat.retry()
    expect(chat.page.locator('[data-phase="finished"]')).to_have_count(2, timeout=PATIENCE)
    assert len(chat.replies()[1].split()) == 60
    chat.say("!words 200")
    chat.page.locator("#stop-button").click()
    chat.status("stopped")
