"""The log of requests as CSV or JSON lines."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.requests import main
from app.storage import requests as table
from app.storage.database import Database
from app.storage.requests import RequestRow, Requests

ROW = RequestRow(
    request_id="r",
    timestamp="2026-11-01T08:00:00.000000+00:00",
    source="page",
    client=None,
    model_name="gemma2:2b",
    engine="ollama",
    prompt_tokens=9,
    cached_tokens=None,
    response_tokens=3,
    time_to_first_token_ms=12.5,
    processing_time_ms=40.0,
    queue_ms=0.0,
    load_ms=0.0,
    prompt_ms=10.0,
    generation_ms=30.0,
    left_out=0,
    status="finished",
    error=None,
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name the test's database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
async def requests(database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Requests:
    if database.kind == "postgresql":
        monkeypatch.setenv("DATABASE_URL", database_url)
    return Requests(database)


def at(day: int, **others: Any) -> RequestRow:
    return replace(ROW, request_id=f"r{day}", timestamp=f"2026-11-{day:02}T08:00:00.000000+00:00", **others)


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(main, ["export", *arguments])


async def exported(*arguments: str) -> list[dict[str, Any]]:
    delete("out")
    assert await run("--format", "jsonl", "-o", "out", *arguments) == 0
    return [json.loads(line) for line in read("out").split("\n")[:-1]]


def read(name: str) -> str:
    return Path(name).read_bytes().decode()


def delete(name: str) -> None:
    Path(name).unlink(missing_ok=True)


def files(tmp_path: Path) -> set[str]:
    return {file.name for file in tmp_path.iterdir()}


async def test_all_rows_are_written_with_all_that_they_have(requests: Requests) -> None:
    await requests.add([at(2, source="v1", client="key", input_text="Рис?\n🍚", output_text="Yes."), at(1)])
    first, second = await exported()
    assert (first["request_id"], second["request_id"]) == ("r1", "r2")
    assert first["timestamp"] == "2026-11-01T08:00:00.000000+00:00"
    assert first["client"] is None
    assert (second["client"], second["input_text"], second["output_text"]) == ("key", "Рис?\n🍚", "Yes.")
    assert second["time_to_first_token_ms"] == 12.5


async def test_as_csv_it_has_a_line_of_names_and_no_formula(requests: Requests) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", 'a "b", c\nd', "1=1"]
    await requests.add([replace(at(n + 1, input_text=text), request_id="=cmd()") for n, text in enumerate(texts)])
    assert await run("-o", "out.csv") == 0
    rows = list(csv.DictReader(io.StringIO(read("out.csv"), newline="")))
    assert [row["input_text"] for row in rows] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", 'a "b", c\nd', "1=1"]
    assert {row["request_id"] for row in rows} == {"'=cmd()"}
    assert (rows[0]["client"], rows[0]["response_tokens"], rows[0]["processing_time_ms"]) == ("", "3", "40.0")


async def test_only_a_time_and_a_source_are_written(requests: Requests) -> None:
    await requests.add([at(1), at(2, source="v1"), at(3, source="api"), at(4)])
    recent = (datetime.now(UTC) - timedelta(hours=2)).isoformat(timespec="microseconds")
    await requests.add([replace(ROW, request_id="now", timestamp=recent)])
    assert [row["request_id"] for row in await exported("--since", "2026-11-02", "--until", "2026-11-04")] == [
        "r2",
        "r3",
    ]
    assert [
        row["request_id"] for row in await exported("--since", "2026-11-04T10:00+03:00", "--until", "2026-11-05")
    ] == ["r4"]
    assert [row["request_id"] for row in await exported("--source", "api")] == ["r3"]
    for ago in ("1d", "3h", "150m"):
        assert "now" in [row["request_id"] for row in await exported("--since", ago)]
    assert await run("--since", "1h", "-o", "none") == 1


async def test_many_rows_of_one_moment_come_once_each_and_some_at_a_time(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_AT_ONCE", 3)
    await requests.add([replace(ROW, request_id=str(n)) for n in range(10)])
    assert [row["request_id"] for row in await exported()] == [str(n) for n in range(10)]


async def test_without_a_file_it_is_printed(requests: Requests, capsys: pytest.CaptureFixture[str]) -> None:
    await requests.add([at(1)])
    assert await run() == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("request_id,timestamp,source,client,")
    assert said.out.splitlines()[1].startswith("r1,2026-11-01T08:00:00.000000+00:00,page,,gemma2:2b,")
    assert said.err == "1 rows\n"


async def test_a_file_that_is_there_stays_and_a_new_one_is_its_owners_alone(
    requests: Requests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await requests.add([at(1)])
    (tmp_path / "mine").write_text("precious")
    assert await run("-o", "mine") == 1
    assert "mine is there already" in capsys.readouterr().err
    assert read("mine") == "precious"
    await exported()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600


async def test_an_empty_log_is_told_and_leaves_no_file(
    requests: Requests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("-o", "out.csv") == 1
    assert capsys.readouterr().err == "chainlit-ollama: nothing was exported: the log of requests is empty\n"
    assert not any(name.startswith("out") for name in files(tmp_path))


def test_where_there_is_no_database_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "-o", "out.csv"]) == 1
    assert "there is no database yet" in capsys.readouterr().err
    assert files(tmp_path) == set()


def test_a_database_that_is_away_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://me:hunter2@127.0.0.1:1/chat")
    assert main(["export"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "yesterday"],
        ["--since", "7w"],
        ["--since", "999999d"],
        ["--source", "nobody"],
        ["--format", "xml"],
        ["--since", "2026-11-02", "--until", "2026-11-01"],
    ],
)
def test_what_is_not_understood_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_a_wrong_setting_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "0")
    assert main(["export"]) == 2


# What the figures are made of


async def test_the_newest_rows_since_a_time_come_oldest_first_without_what_was_said(requests: Requests) -> None:
    await requests.add([at(n, input_text="secret", output_text="secret") for n in (3, 1, 4, 2)])
    rows = await requests.since("2026-11-02T00:00:00.000000+00:00", 10)
    assert [row.request_id for row in rows] == ["r2", "r3", "r4"]
    assert "secret" not in repr(rows)
    assert [row.request_id for row in await requests.since("", 2)] == ["r3", "r4"]
