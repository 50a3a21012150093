"""What goes wrong around the page: Ollama away or hanging, a port taken, a folder that takes no writes, Ctrl-C."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import PATIENCE, Chat
from tests.site import clean_environment, fake_ollama, free_port, server

Visit = Callable[..., Chat]


def test_an_ollama_that_goes_away_is_told_and_one_that_comes_back_is_used(visit: Visit, tmp_path: Path) -> None:
    port = free_port()
    with fake_ollama(tmp_path, "--speedup", "100", port=port) as ollama:
        site_manager = server(tmp_path, OLLAMA_HOST=ollama.url, MODELS_CACHE_SECONDS="1", MODEL="ollama/gemma2:2b")
        site = site_manager.__enter__()
        chat = visit(site)
        chat.ask("!echo before")
    try:
        chat.say("!echo anybody")
        chat.page.get_by_test_id("retry").last.wait_for()
        assert "does not answer" in chat.replies()[-1]
        banner = chat.page.get_by_test_id("status-banner")
        expect(banner).to_contain_text("gemma2:2b is not reachable at the moment", timeout=PATIENCE)
        with fake_ollama(tmp_path, "--speedup", "100", port=port):
            chat.retry()
            chat.page.locator(".ai-message .prose", has_text="anybody").wait_for()
            assert chat.replies()[0] == "before"
            expect(banner).to_contain_text("gemma2:2b answers", timeout=PATIENCE)
    finally:
        site_manager.__exit__(None, None, None)


def test_an_ollama_that_hangs_is_given_up_after_the_limit(visit: Visit, tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "100") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, TIMEOUT="1", LOAD_TIMEOUT="1") as site,
    ):
        chat = visit(site)
        for n, message in enumerate(("!hang", "!freeze")):
            chat.say(message)
            chat.page.get_by_text("has sent nothing").nth(n).wait_for(timeout=PATIENCE)
        assert "the quick brown" in chat.replies()[1]


def test_a_pull_is_shown_on_the_page_and_the_model_answers_when_it_is_there(visit: Visit, tmp_path: Path) -> None:
    port = free_port()
    with server(tmp_path, OLLAMA_HOST=f"http://127.0.0.1:{port}") as site:
        chat = visit(site)
        banner = chat.page.get_by_test_id("status-banner")
        expect(banner).to_contain_text("The built-in guide answers", timeout=PATIENCE)
        with fake_ollama(tmp_path, "--models", "", "--speedup", "2", port=port):
            expect(banner.get_by_role("progressbar")).to_be_visible(timeout=PATIENCE)
            expect(banner).to_contain_text("gemma2:2b answers", timeout=PATIENCE)
            assert chat.ask("!echo at last") == "at last"
        assert "downloading gemma2:2b" in site.text()


def test_a_pull_that_fails_is_told_and_tried_again(visit: Visit, tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--models", "", "--speedup", "100", "--pull-fails", "1") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url) as site,
    ):
        chat = visit(site)
        banner = chat.page.get_by_test_id("status-banner")
        banner.get_by_role("button").first.click()
        expect(banner).to_contain_text("no such host", timeout=PATIENCE)
        expect(banner).to_contain_text("gemma2:2b answers", timeout=2 * PATIENCE)


def test_who_comes_second_sees_the_place_in_the_line(visit: Visit, tmp_path: Path) -> None:
    with fake_ollama(tmp_path) as ollama, server(tmp_path, OLLAMA_HOST=ollama.url) as site:
        first, second = visit(site), visit(site)
        first.say("!words 300")
        first.page.locator(".ai-message .prose", has_text="the quick").wait_for()
        second.say("!echo me too")
        expect(second.status("waiting")).to_contain_text("1 person before you")
        first.page.locator("#stop-button").click()
        second.page.locator(".ai-message .prose", has_text="me too").wait_for()


def test_ctrl_c_in_mid_reply_ends_at_once_without_a_traceback_and_keeps_the_text(visit: Visit, tmp_path: Path) -> None:
    with fake_ollama(tmp_path) as ollama:
        with server(tmp_path, OLLAMA_HOST=ollama.url) as site:
            chat = visit(site)
            chat.say("!words 400")
            chat.page.locator(".ai-message .prose", has_text="the quick").wait_for()
            assert site.interrupt() == 0
            assert "Traceback" not in site.text()
            cookies = chat.page.context.cookies()
            thread = chat.page.url.rpartition("/")[2]
        with server(tmp_path, OLLAMA_HOST=ollama.url) as site:
            again = visit(site)
            again.page.context.add_cookies([{**cookie, "url": site.url} for cookie in _without_place(cookies)])
            again.page.goto(f"{site.url}/thread/{thread}")
            again.page.locator(".ai-message .prose", has_text="the quick").wait_for()
            again.status("stopped")


def _without_place(cookies: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{key: value for key, value in cookie.items() if key in ("name", "value")} for cookie in cookies]


def _run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Start the server where it cannot start."""
    return subprocess.run(
        [sys.executable, "-m", "app"],
        cwd=folder,
        env=clean_environment(HOST="127.0.0.1", **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_port_that_is_taken_ends_the_start_with_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = _run(tmp_path, PORT=str(port), DATA_DIR=str(tmp_path / "data"))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"port {port}" in ended.stderr
    assert f"PORT={port + 1} make run" in ended.stderr


def test_a_data_folder_without_the_right_to_write_ends_the_start_with_one_line(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("a file where the folder should be", encoding="utf-8")
    ended = _run(tmp_path, PORT=str(free_port()), DATA_DIR=str(place / "data"))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "DATA_DIR=" in ended.stderr


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_data_folder_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    ended = _run(tmp_path, PORT=str(free_port()), DATA_DIR=str(tmp_path / "data"))
    assert ended.returncode == 1
    assert "cannot write in the data folder" in ended.stderr


def test_a_wrong_engine_address_ends_the_start_with_one_line(tmp_path: Path) -> None:
    ended = _run(tmp_path, OLLAMA_HOST="http://box:port")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "OLLAMA_HOST='http://box:port' is not allowed" in ended.stderr
