"""The log: its two forms, and what never stands in it."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.log import CATEGORIES, JsonLines, TextLines
from app.request_ids import WithRequestId
from app.settings import ROOT
from tests.site import Program, fake_ollama, server
from tests.tab import Tab, Visitor

# What a visitor and a program say, and a key: none of it is anybody's business.
SAID = "my-cat-is-called-Bartholomew"
KEY = "key-of-the-programs-0123456789"
FAILING = "crash now"


def line(message: str, *arguments: object, **more: Any) -> dict[str, Any]:
    record = logging.LogRecord("app.x", logging.INFO, "x.py", 1, message, arguments, None)
    record.__dict__.update(more)
    WithRequestId().filter(record)
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_json_line_has_its_category_and_numbers_apart() -> None:
    found = line("CHAT %s finished", "ollama/gemma2:2b", total_seconds=1.5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("timestamp"))
    assert found == {
        "level": "INFO",
        "category": "CHAT",
        "request_id": "-",
        "message": "ollama/gemma2:2b finished",
        "total_seconds": 1.5,
    }


def test_a_line_of_somebody_else_s_is_told_as_such() -> None:
    found = line("connection broke\nhere")
    assert (found["category"], found["message"]) == ("OTHER", "connection broke\nhere")


def test_a_warning_of_pythons_is_a_line_too() -> None:
    code = "import warnings; from app.log import set_up_log; set_up_log('INFO', 'json'); warnings.warn('old\\nways')"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    (found,) = map(json.loads, ended.stderr.splitlines())
    assert (found["level"], found["category"]) == ("WARNING", "OTHER")
    assert "old\nways" in found["message"]


def test_nobody_writes_a_line_of_their_own_into_the_text() -> None:
    words = "broke\n2026-11-21 20:00:00 ERROR - AUTH\x1b[2J\u2028"
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        record = logging.LogRecord("app.x", logging.INFO, "x.py", 1, "CHAT %s", (words,), sys.exc_info())
    WithRequestId().filter(record)
    first, *trace = TextLines().format(record).splitlines()
    assert first.endswith(r"INFO - CHAT broke\n2026-11-21 20:00:00 ERROR - AUTH\x1b[2J\u2028")
    assert trace[0].startswith("Traceback")


@pytest.fixture(scope="module", params=["json", "text"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder: Path = tmp_path_factory.mktemp("log")
    with (
        fake_ollama(folder, "--speedup", "10000") as ollama,
        server(
            folder,
            OLLAMA_HOST=ollama.url,
            LOG_LEVEL="DEBUG",
            LOG_FORMAT=request.param,
            API_KEYS=f"tests:{KEY}",
            MODELS="gemma2:2b",
        ) as program,
    ):
        program.environment["form"] = request.param
        yield program


def test_not_even_a_log_for_debugging_says_what_people_say_or_who_they_are(site: Program) -> None:
    """The page's message and a program's, one that works and one whose engine fails."""
    ask = {"model": "gemma2:2b", "messages": [{"role": "user", "content": SAID}]}
    keys = {"Authorization": f"Bearer {KEY}"}
    with Visitor(site.url) as visitor, Tab(visitor) as tab:
        tab.ask(SAID)
        for stream in (False, True):
            answer = httpx.post(
                f"{site.url}/v1/chat/completions", json=ask | {"stream": stream}, headers=keys, trust_env=False
            )
            assert answer.status_code == 200
        for text in (f"die {SAID}", SAID):
            httpx.post(f"{site.url}/api/chat", json={"message": text, "model": SAID}, headers=keys, trust_env=False)
        secrets = [SAID, KEY, tab.session_id, *visitor.http.cookies.values()]
        thread = visitor.http.post("/project/threads", json={"pagination": {"first": 5}, "filter": {}}).json()
        secrets += [found["id"] for found in thread["data"]]
        assert len(secrets) >= 6
    log = site.text()
    assert log.count("CHAT ollama/gemma2:2b finished") + log.count('"message": "ollama/gemma2:2b finished') >= 3
    for secret in secrets:
        assert secret not in log


def test_every_line_of_the_json_log_is_an_object_with_a_known_category(site: Program) -> None:
    if site.environment["form"] != "json":
        pytest.skip("the log is text here")
    keys = {"Authorization": f"Bearer {KEY}"}
    answer = httpx.post(f"{site.url}/api/chat", json={"message": "hello"}, headers=keys, trust_env=False)
    assert answer.status_code == 200
    lines = [json.loads(text) for text in site.text().splitlines()]
    assert {found["category"] for found in lines} <= CATEGORIES
    replies = [found for found in lines if found["category"] == "CHAT" and "total_seconds" in found]
    assert replies
    assert {"model", "source", "outcome", "queue_seconds", "reply_tokens"} <= set(replies[0])
    assert replies[0]["request_id"] != "-"
