"""The page while its database comes and goes, is full or locked; and two pages on one conversation."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.settings import ROOT
from tests.browser import PATIENCE, Chat
from tests.postgres import Postgres, wait_for
from tests.site import fake_ollama, free_port, server
from tests.tab import Tab, Visitor

Visit = Callable[..., Chat]
NOT_KEPT = "This conversation is not being kept now"
KEPT_AGAIN = "All that was said here is kept"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event announces."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
        chat.reload()  # all of it is in memory
        chat.page.locator(".ai-message .prose", has_text="two").wait_for(timeout=PATIENCE)
        assert chat.replies() == ["one", "two"]
        health = site.get("/health")
        assert (health["status"], health["database"]["state"], health["database"]["lost"]) == ("degraded", "away", 0)
        postgres.start()
        expect(chat.page.get_by_text(KEPT_AGAIN)).to_be_visible(timeout=PATIENCE)
        database = site.get("/health")["database"]
        assert (database["state"], database["since"], database["waiting"], database["lost"]) == ("ok", None, 0, 0)
        chat.reload()
        chat.page.locator(".ai-message .prose", has_text="two").wait_for(timeout=PATIENCE)
        assert chat.replies() == ["one", "two"]
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
        # Not all of it is in memory, so it cannot be opened now.
        other = chat.page.context.new_page()
        other.goto(chat.page.url)
        other.get_by_text("this conversation cannot be opened now").wait_for(timeout=PATIENCE)
        postgres.start()
        assert chat.ask("!echo three") == "three"
        assert chat.replies() == ["one", "two", "three"]
        expect(chat.page.get_by_text(KEPT_AGAIN)).to_be_visible(timeout=PATIENCE)
        chat.reload()
        chat.page.locator(".ai-message .prose", has_text="three").wait_for(timeout=PATIENCE)
        assert chat.replies() == ["one", "two", "three"]


def test_what_is_too_much_to_wait_is_told_in_the_conversation(
    visit: Visit, postgres: Postgres, url: str, tmp_path: Path
) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "1000") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url, UNSAVED_MAX_MB="1") as site,
    ):
        chat = visit(site)
        assert chat.ask("!echo one") == "one"
        postgres.stop()
        ollama.post("/_fake/script", {"replies": ["!echo " + (" " * 12_000 + "x") * 90]})
        chat.ask("a megabyte, please")
        chat.wait_for("Something of this conversation could not be kept")
        assert site.get("/health")["database"]["lost"] == 1
        postgres.start()
        until(lambda: site.get("/health")["database"]["waiting"] == 0)
        assert chat.ask("!echo three") == "three"
        expect(chat.page.get_by_text(KEPT_AGAIN)).to_have_count(0)
        chat.wait_for("Something of this conversation could not be kept")


def test_postgresql_restarted_in_mid_reply_takes_nothing_from_it(
    visit: Visit, postgres: Postgres, url: str, tmp_path: Path
) -> None:
    with (
        fake_ollama(tmp_path, "--load-seconds", "0") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url, STORE_SECONDS="0.2") as site,
    ):
        chat = visit(site, locale="ru-RU")
        chat.say("!words 60")
        chat.page.locator(".ai-message .prose", has_text="the quick").wait_for(timeout=PATIENCE)
        postgres.crash()
        expect(chat.page.get_by_text("Беседа сейчас не сохраняется")).to_be_visible(timeout=PATIENCE)
        postgres.start()
        expect(chat.page.get_by_text("Всё, что здесь сказано, сохранено")).to_be_visible(timeout=PATIENCE)
        chat.status("finished")
        chat.reload()
        chat.status("finished")
        assert len(chat.replies()[-1].split()) == 60


def test_a_conversation_is_deleted_with_what_waits_of_it(
    visit: Visit, postgres: Postgres, url: str, tmp_path: Path
) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "100") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url) as site,
        Visitor(site.url) as ann,
    ):
        tab = Tab(ann)
        tab.ask("!echo one")
        ((thread,),) = wait_for(lambda: postgres.execute("SELECT id FROM threads", url.rpartition("/")[2]))
        postgres.stop()
        tab.ask("!echo two")
        assert ann.http.request("DELETE", "/project/thread", json={"threadId": thread}).status_code == 503
        postgres.start()
        tab.wait_for("toast")
        until(lambda: site.get("/health")["database"]["waiting"] == 0)
        assert ann.http.request("DELETE", "/project/thread", json={"threadId": thread}).status_code == 200
        tab.ask("!echo three")
        assert wait_for(lambda: postgres.execute("SELECT id FROM steps", url.rpartition("/")[2])) == []
        tab.leave()


def test_a_disk_that_is_full_is_told_and_what_was_said_is_kept_when_there_is_room(visit: Visit, tmp_path: Path) -> None:
    with fake_ollama(tmp_path, "--speedup", "100") as ollama, server(tmp_path, OLLAMA_HOST=ollama.url) as site:
        chat = visit(site)
        assert chat.ask("!echo one") == "one"
        # As a full disk: no file of the server's may grow any more.
        largest = max(file.stat().st_size for file in (tmp_path / "data").iterdir())
        resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        assert chat.ask("!words 3000").startswith("the quick")
        expect(chat.page.get_by_text(NOT_KEPT)).to_be_visible(timeout=PATIENCE)
        resource.prlimit(site.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        expect(chat.page.get_by_text(KEPT_AGAIN)).to_be_visible(timeout=PATIENCE)
        chat.reload()
        assert len(chat.page.locator(".ai-message .prose").nth(1).inner_text().split()) > 500


@pytest.fixture
def nobody() -> Iterator[tuple[Path, list[str]]]:
    """A folder of a user's who may not write everywhere, and what starts a command as that user."""
    folder = Path(tempfile.mkdtemp(prefix="chat-nobody-"))
    user = []
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        user = ["setpriv", "--reuid=nobody", "--clear-groups"]
        started = subprocess.run(
            [*user, sys.executable, "-c", "import app"], cwd=ROOT, capture_output=True, check=False
        )
        if started.returncode:
            pytest.skip("the program is where only root may read it")
    yield folder, user
    shutil.rmtree(folder)


def test_a_file_that_is_read_only_is_told_and_used_as_soon_as_it_is_not(nobody: tuple[Path, list[str]]) -> None:
    folder, user = nobody
    file = folder / "data" / "chat.db"
    with fake_ollama(folder, "--speedup", "100") as ollama:
        with server(folder, command=[*user, sys.executable, "-m", "app"], OLLAMA_HOST=ollama.url):
            pass
        file.chmod(0o444)
        with (
            server(folder, command=[*user, sys.executable, "-m", "app"], OLLAMA_HOST=ollama.url) as site,
            Visitor(site.url) as ann,
        ):
            tab = Tab(ann)
            tab.ask("!echo one")
            assert NOT_KEPT in tab.listen(0.1)
            health = site.get("/health")["database"]
            assert (health["state"], health["lost"]) == ("away", 0)
            assert "readonly" in site.text()
            for part in file.parent.glob("chat.db*"):  # SQLite makes those beside it with its rights
                part.chmod(0o644)
            until(lambda: site.get("/health")["database"]["waiting"] == 0)
            assert KEPT_AGAIN in tab.listen(0.5)
        with sqlite3.connect(file) as kept:
            assert kept.execute("SELECT output FROM steps").fetchall() == [("!echo one",), ("one",)]
        kept.close()


def test_a_database_that_another_program_locks_for_ten_seconds_holds_no_reply_up(visit: Visit, tmp_path: Path) -> None:
    with fake_ollama(tmp_path, "--speedup", "100") as ollama, server(tmp_path, OLLAMA_HOST=ollama.url) as site:
        chat = visit(site)
        assert chat.ask("!echo one") == "one"
        other = sqlite3.connect(tmp_path / "data" / "chat.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert chat.ask("!echo two") == "two"
        expect(chat.page.get_by_text(NOT_KEPT)).to_be_visible(timeout=PATIENCE)
        assert chat.ask("!echo three") == "three"
        time.sleep(max(0.0, begun + 10 - time.monotonic()))  # twice as long as SQLite waits by itself
        other.execute("ROLLBACK")
        other.close()
        expect(chat.page.get_by_text(KEPT_AGAIN)).to_be_visible(timeout=PATIENCE)
        chat.reload()
        chat.page.locator(".ai-message .prose", has_text="three").wait_for(timeout=PATIENCE)
        assert chat.replies() == ["one", "two", "three"]


def test_a_reply_of_a_megabyte_is_kept_whole_and_a_message_of_that_size_is_refused(tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "1000", "--load-seconds", "0") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url) as site,
        Visitor(site.url) as ann,
    ):
        tab = Tab(ann)
        tab.ask("x" * 300_000)
        assert "262,144" in "".join(tab.told)
        reply = (" " * 12_000 + "😀") * 90
        ollama.post("/_fake/script", {"replies": ["!echo " + reply]})
        tab.ask("again")
        thread = json.loads(next(packet for packet in tab.told if '"first_interaction"' in packet)[2:])[1]["thread_id"]
        steps = ann.thread(thread)["steps"]
        assert [step["output"] for step in steps if step["type"] == "user_message"] == ["x" * 300_000, "again"]
        assert len(steps[-1]["output"]) > 1_000_000
        assert steps[-1]["output"].strip() == reply.strip()
        tab.leave()


def test_two_tabs_that_write_into_one_conversation_at_once_lose_nothing(visit: Visit, tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "2", "--load-seconds", "0") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, SLOTS="2") as site,
    ):
        first = visit(site)
        assert first.ask("!echo one") == "one"
        second = Chat(first.page.context.new_page())
        second.page.goto(first.page.url)
        second.page.locator(".ai-message .prose", has_text="one").wait_for(timeout=PATIENCE)
        first.say("!words 30")
        first.page.locator(".ai-message .prose", has_text="the quick").wait_for(timeout=PATIENCE)
        assert second.ask("!echo two") == "two"
        expect(first.page.locator('[data-phase="finished"]')).to_have_count(2, timeout=PATIENCE)
        # Each answer stands below its own question, whichever ended first.
        for tab in (first, second):
            tab.reload()
            expect(tab.page.locator(".ai-message .prose")).to_have_count(3, timeout=PATIENCE)
            shown = tab.page.locator("[data-step-type]").evaluate_all("all => all.map(step => step.innerText.trim())")
            assert len(shown) == 6
            assert [shown[0], shown[2], shown[4]] == ["!echo one", "!words 30", "!echo two"]
            assert tab.replies()[1].startswith("the quick")
            assert tab.replies()[2] == "two"


def test_a_message_whose_server_died_before_a_word_came_can_be_asked_again(visit: Visit, tmp_path: Path) -> None:
    port = str(free_port())
    with fake_ollama(tmp_path, "--load-seconds", "0", "--speedup", "20") as ollama:
        with server(tmp_path, PORT=port, OLLAMA_HOST=ollama.url) as site:
            chat = visit(site)
            assert chat.ask("!echo one") == "one"
            ollama.post("/_fake/script", {"replies": ["!hang"]})
            chat.say("!echo two")
            until(lambda: "!echo two" in json.dumps(ollama.get("/_fake/state")))
            site.kill()
        with server(tmp_path, PORT=port, OLLAMA_HOST=ollama.url):
            chat.page.get_by_text("The server stopped before it replied").wait_for(timeout=PATIENCE)
            chat.retry()
            chat.page.locator(".ai-message .prose", has_text="two").wait_for(timeout=PATIENCE)
            assert chat.replies() == ["one", "two"]
            chat.reload()
            chat.page.locator(".ai-message .prose", has_text="two").wait_for(timeout=PATIENCE)
            assert chat.replies() == ["one", "two"]
