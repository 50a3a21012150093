"""What visitors think of replies as JSON lines."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.feedback import main
from app.storage.database import Database
from app.storage.records import Step
from app.storage.threads import Threads
from app.storage.visitors import Visitors

LINE = {"prompt", "messages", "reply", "thumb", "comment", "model", "time"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name the test's database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)


async def lines(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and what was written."""
    code = await asyncio.to_thread(main, ["--output", "out.jsonl", *arguments])
    return code, [json.loads(line) for line in written().split("\n")[:-1]]


def written() -> str:
    return Path("out.jsonl").read_text(encoding="utf-8")


@pytest.fixture
async def threads(database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Threads:
    """Ann has talked about rice, with a reasoning and a notice in between."""
    if database.kind == "postgresql":
        monkeypatch.setenv("DATABASE_URL", database_url)
    ann = await Visitors(database).add("anon-ann", {})
    kept = Threads(database)
    said = [
        Step("q1", "t", type="user_message", output="How do I cook rice? 🍚"),
        Step("r1", "t", type="llm", output="Water first."),
        Step("a1", "t", type="assistant_message", output="Boil it.", metadata={"model": "ollama/gemma2:2b"}),
        Step("q2", "t", type="user_message", output="Lost"),
        Step(
            "n2", "t", type="assistant_message", output="The model is away.", is_error=True, metadata={"notice": True}
        ),
        Step("q3", "t", type="user_message", output="And beans?"),
        Step("a3", "t", type="assistant_message", output="Soak them.", metadata={"model": "ollama/gemma2:2b"}),
        Step("q4", "t", type="user_message", output="Thanks"),
    ]
    for step in said:
        await kept.save_step(step, ann.id)
    return kept


async def test_a_thumb_is_written_with_what_it_was_given_to(threads: Threads) -> None:
    await threads.save_thumb("a3", 1, "tasty\nand quick")
    code, found = await lines()
    assert code == 0
    (line,) = found
    assert line.keys() == LINE
    assert line | {"time": ""} == {
        "prompt": "And beans?",
        "messages": [
            {"role": "user", "content": "How do I cook rice? 🍚"},
            {"role": "assistant", "content": "Boil it."},
        ],
        "reply": "Soak them.",
        "thumb": "up",
        "comment": "tasty\nand quick",
        "model": "ollama/gemma2:2b",
        "time": "",
    }
    assert "anon-" not in written()


async def test_a_later_thumb_takes_the_place_of_the_one_before(threads: Threads) -> None:
    await threads.save_thumb("a1", 0, "cold")
    await threads.save_thumb("a1", 1, None)
    _, (line,) = await lines()
    assert (line["thumb"], line["comment"], line["messages"]) == ("up", None, [])


async def test_a_thumb_that_was_taken_back_is_not_written(threads: Threads) -> None:
    await threads.delete_thumb(await threads.save_thumb("a1", 0, None))
    assert await lines() == (0, [])


async def test_a_thumb_for_a_notice_of_the_page_is_not_written(threads: Threads) -> None:
    await threads.save_thumb("n2", 0, "sad")
    assert await lines() == (0, [])


async def test_only_those_since_a_date_are_written(threads: Threads) -> None:
    await threads.save_thumb("a1", 1, None)
    assert len((await lines("--since", "2020-01-01"))[1]) == 1
    assert len((await lines("--since", "2999-01-01T00:00:00+03:00"))[1]) == 0


async def test_many_are_written_in_order(database: Database, threads: Threads) -> None:
    ann = await Visitors(database).add("anon-ann", {})
    for n in range(230):
        await threads.save_step(Step(f"q-{n}", f"t{n}", type="user_message", output=f"{n}?"), ann.id)
        await threads.save_step(Step(f"a-{n}", f"t{n}", type="assistant_message", output=f"{n}!"), ann.id)
        await threads.save_thumb(f"a-{n}", n % 2, None)
    _, found = await lines()
    assert [line["prompt"] for line in found] == [f"{n}?" for n in range(230)]


async def test_without_a_file_it_is_printed(threads: Threads, capsys: pytest.CaptureFixture[str]) -> None:
    await threads.save_thumb("a1", 1, None)
    assert await asyncio.to_thread(main, []) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["reply"] == "Boil it."
    assert said.err == "1 lines\n"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("chainlit-ollama: no feedback was written: ")
    assert said.err.count("\n") == 1
    return code, said.err


def test_where_there_is_no_database_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = refused(capsys)
    assert code == 1
    assert "there is no database yet" in said
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "chat.db").write_text("rice " * 1000)
    code, said = refused(capsys, "--output", "out.jsonl")
    assert code == 1
    assert "not a database" in said
    assert [file.name for file in tmp_path.glob("out*")] == []


def test_a_database_that_is_away_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+asyncpg://me:hunter2@127.0.0.1:1/chat")
    code, said = refused(capsys)
    assert code == 1
    assert "hunter2" not in said


def test_a_wrong_setting_ends_with_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PORT", "0")
    assert refused(capsys)[0] == 2


def test_a_wrong_date_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--since", "yesterday"])
    assert ended.value.code == 2
    assert "DATE" in capsys.readouterr().err


async def test_a_folder_that_is_not_there_is_told(threads: Threads, capsys: pytest.CaptureFixture[str]) -> None:
    code = await asyncio.to_thread(main, ["--output", "missing/out.jsonl"])
    assert code == 1
    assert "No such file or directory: missing" in capsys.readouterr().err
