"""A visitor's own data over HTTP, as the page asks for them, of a real server with each database."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.timing import times_of
from app.asker import visitor_hash
from app.storage.records import Step
from tests.many import name_of
from tests.postgres import database_of
from tests.site import Program, fake_ollama, server
from tests.tab import Tab, Visitor, new_id

RUSSIAN = {"Accept-Language": "ru-RU,ru;q=0.9,en;q=0.8"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("data")
    variables = {"IMPORT_MAX_MB": "1", "IMPORT_TRIES": "1000", "LOG_TEXT": "on"} | database_of(request)
    with (
        fake_ollama(folder, "--speedup", "100") as ollama,
        server(folder, OLLAMA_HOST=ollama.url, **variables) as program,
    ):
        yield program


@pytest.fixture
def ann(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        yield visitor


@pytest.fixture
def eve(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        yield visitor


def threads_of(visitor: Visitor) -> list[dict[str, Any]]:
    answer = visitor.call("POST", "/project/threads", {"pagination": {"first": 50}, "filter": {}})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def talk(visitor: Visitor, text: str) -> str:
    """Have a conversation; returns its id."""
    known = {thread["id"] for thread in threads_of(visitor)}
    with Tab(visitor) as tab:
        tab.ask(f"!echo {text}")
    (new,) = {thread["id"] for thread in threads_of(visitor)} - known
    return str(new)


def exported(visitor: Visitor, thread: str, kind: str = "json", **headers: str) -> Any:
    return visitor.http.get(f"/api/me/conversations/{thread}/export", params={"format": kind}, headers=headers)


def bring(visitor: Visitor, data: bytes, **headers: str) -> Any:
    return visitor.http.post("/api/me/import", content=data, headers=headers)


def said(visitor: Visitor, thread: str) -> list[tuple[str, str]]:
    return [(step["type"], step["output"]) for step in visitor.thread(thread)["steps"]]


def test_a_conversation_is_had_as_markdown_in_the_visitors_language(ann: Visitor) -> None:
    thread = talk(ann, "Привет 🍚")
    answer = exported(ann, thread, "markdown", **RUSSIAN)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    name = answer.headers["content-disposition"]
    assert name.startswith('attachment; filename="')
    assert name.endswith("%D0%9F%D1%80%D0%B8%D0%B2%D0%B5%D1%82%20%F0%9F%8D%9A.md")
    assert "## Вы · " in answer.text
    assert "## ollama/gemma2:2b · " in answer.text
    assert "\nПривет 🍚\n" in answer.text


def test_a_conversation_is_brought_to_another_visitor_and_goes_on(ann: Visitor, eve: Visitor) -> None:
    thread = talk(ann, "rice")
    answer = exported(ann, thread)
    whole = answer.json()
    assert ann.thread(thread)["userId"] not in answer.text
    assert "anon-" not in answer.text
    assert (whole["version"], whole["conversation"]["id"]) == (1, thread)
    assert bring(eve, answer.content).json() == {"imported": 1, "skipped": 0}
    assert bring(eve, answer.content).json() == {"imported": 0, "skipped": 1}
    assert bring(ann, answer.content).json() == {"imported": 0, "skipped": 1}
    (brought,) = threads_of(eve)
    assert brought["name"] == "!echo rice"
    assert brought["createdAt"] == ann.thread(thread)["createdAt"]
    assert said(eve, brought["id"]) == said(ann, thread)
    assert brought["id"] != thread
    with Tab(eve, thread_id=brought["id"]) as tab:
        tab.wait_for("resume_thread")
        tab.ask("!echo beans")
    assert [text for _, text in said(eve, brought["id"])][-1] == "beans"
    assert len(said(ann, thread)) == 2


def test_all_conversations_come_as_one_zip(ann: Visitor, eve: Visitor) -> None:
    for text in ("one", "two"):
        talk(ann, text)
    answer = ann.http.get("/api/me/export")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers
    with zipfile.ZipFile(io.BytesIO(answer.content)) as whole:
        assert whole.testzip() is None
        names = [name[11:] for name in whole.namelist() if name != "manifest.json"]
        assert sorted(names) == ["!echo one.json", "!echo one.md", "!echo two.json", "!echo two.md"]
    assert bring(eve, answer.content).json() == {"imported": 2, "skipped": 0}
    assert [thread["name"] for thread in threads_of(eve)] == ["!echo two", "!echo one"]


def test_another_visitors_conversation_is_as_if_it_were_not_there(ann: Visitor, eve: Visitor) -> None:
    thread = talk(ann, "secret")
    talk(eve, "mine")
    for kind in ("json", "markdown"):
        refused, missing = exported(eve, thread, kind), exported(eve, new_id(), kind)
        assert (refused.status_code, refused.content) == (missing.status_code, missing.content)
        assert refused.status_code == 404
    assert "secret" not in str(zipfile.ZipFile(io.BytesIO(eve.http.get("/api/me/export").content)).namelist())
    assert eve.http.delete("/api/me/data").json() == {"conversations": 1}
    assert said(ann, thread)[-1][1] == "secret"


def test_what_the_replies_of_a_conversation_took_is_told_to_its_owner_alone(ann: Visitor, eve: Visitor) -> None:
    thread = talk(ann, "secret")
    talk(eve, "mine")
    path = "/api/me/conversations/{}/timing"
    answer = ann.http.get(path.format(thread))
    (reply,) = answer.json()["replies"]
    assert (reply["number"], reply["model"]) == (1, "ollama/gemma2:2b")
    assert 0 < reply["first_token_seconds"] <= reply["total_seconds"]
    assert "secret" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    refused, missing = eve.http.get(path.format(thread)), eve.http.get(path.format(new_id()))
    assert (refused.status_code, refused.content) == (missing.status_code, missing.content)
    assert refused.status_code == 404


def test_times_that_are_none_are_not_drawn() -> None:
    """An import can bring anything."""
    metrics: list[Any] = [
        {"total_seconds": 2, "first_token_seconds": 0.5, "tokens_per_second": 9.87654},
        {"total_seconds": "2"},
        {"total_seconds": float("nan")},
        {"total_seconds": 10**400},
        {"total_seconds": -1},
        {"total_seconds": True},
        [1],
        None,
        {"total_seconds": 3, "first_token_seconds": "<b>", "tokens_per_second": None},
    ]
    steps = [Step("s", "t", type="assistant_message", metadata={"metrics": one, "model": 7}) for one in metrics]
    nothing = {"model": None, "first_token_seconds": None, "tokens_per_second": None}
    assert times_of([Step("q", "t", type="user_message", metadata={"metrics": metrics[0]}), *steps]) == [
        nothing | {"number": 1, "total_seconds": 2, "first_token_seconds": 0.5, "tokens_per_second": 9.877},
        nothing | {"number": 7, "total_seconds": 3},
    ]


def test_an_unknown_format_is_refused(ann: Visitor) -> None:
    answer = exported(ann, new_id(), "pdf")
    assert answer.status_code == 422
    assert answer.json()["code"] == "bad_request"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "not_an_export"),
        (b"rice", 422, "not_an_export"),
        (b"PK\x03\x04 rice", 422, "not_an_export"),
        (b'{"format": "chainlit-ollama conversation", "version": 2}', 422, "newer_export"),
        (b" " * 1_100_000, 413, "too_large"),
    ],
)
def test_what_cannot_be_imported_is_told_in_both_languages(ann: Visitor, data: bytes, status: int, code: str) -> None:
    english, russian = bring(ann, data), bring(ann, data, **RUSSIAN)
    for answer in (english, russian):
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert english.json()["detail"] != russian.json()["detail"]
    assert english.json()["detail"].isascii()
    assert threads_of(ann) == []


def test_a_body_without_a_length_is_bounded_too(ann: Visitor) -> None:
    answer = ann.http.post("/api/me/import", content=iter([b"x" * 100_000] * 20))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_one_bad_conversation_among_good_ones_writes_none(ann: Visitor, eve: Visitor) -> None:
    good = exported(ann, talk(ann, "good")).content
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as whole:
        whole.writestr("manifest.json", json.dumps({"format": "chainlit-ollama export", "version": 1}))
        whole.writestr("a.json", good)
        whole.writestr("b.json", good[:-5])
    assert bring(eve, out.getvalue()).status_code == 422
    assert threads_of(eve) == []


def test_all_data_are_deleted_while_a_reply_is_being_written(ann: Visitor) -> None:
    talk(ann, "one")
    with Tab(ann) as tab:
        tab.send("chat_settings_change", {"temperature": 0.9})
        tab.send(
            "client_message",
            {
                "message": {
                    "id": new_id(),
                    "threadId": "",
                    "name": "user",
                    "type": "user_message",
                    "output": "!words 20000",
                    "createdAt": "2026-11-20T08:00:00Z",
                },
                "fileReferences": [],
            },
        )
        tab.wait_for("task_start")
        answer = ann.http.delete("/api/me/data")
        tab.wait_for("task_end")
    assert answer.status_code == 200
    assert answer.json()["conversations"] in (1, 2)
    assert ann.http.delete("/api/me/data").json() == {"conversations": 0}
    assert threads_of(ann) == []
    with zipfile.ZipFile(io.BytesIO(ann.http.get("/api/me/export").content)) as whole:
        assert json.loads(whole.read("manifest.json"))["settings"] == {}


def test_what_was_said_goes_from_the_log_of_requests_too(ann: Visitor, eve: Visitor, site: Program) -> None:
    talk(ann, "ann has said so")
    talk(eve, "eve has said so")
    path = site.log.parent / "data" / "log.jsonl"

    def logged() -> str:
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "app.requests", "export", "--format", "jsonl", "-o", str(path)]
        done = subprocess.run(command, env=site.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or "is empty" in done.stderr
        return path.read_text(encoding="utf-8") if path.exists() else ""

    deadline = time.monotonic() + 20
    while not ("ann has said so" in logged() and "eve has said so" in logged()):
        assert time.monotonic() < deadline
    ann.http.delete("/api/me/data").raise_for_status()
    assert "ann has said so" not in logged()
    assert "eve has said so" in logged()
    assert visitor_hash(name_of(eve)) in logged()
    assert visitor_hash(name_of(ann)) not in logged()
    path.unlink()
    assert "what people say is kept" in site.text()


def test_who_is_nobody_gets_nothing(site: Program) -> None:
    """Without a cookie one is a visitor who is new, and has nothing."""
    with Visitor(site.url, known=False) as nobody:
        assert exported(nobody, new_id()).status_code == 404
        assert nobody.http.delete("/api/me/data").json() == {"conversations": 0}


def test_nothing_that_was_brought_stays_in_the_data_folder(ann: Visitor, site: Program) -> None:
    bring(ann, b"rice" * 1000)
    names = {file.name for file in Path(site.log.parent / "data").iterdir()}
    assert names <= {"chat.db", "chat.db-wal", "chat.db-shm", "secret.key"}
