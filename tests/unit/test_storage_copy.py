"""`python -m app.storage.copy`: SQLite to PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.settings import ROOT
from app.storage import copy as copying
from app.storage.database import Database
from app.storage.records import Element, Step
from app.storage.tables import metadata
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from tests.postgres import Postgres
from tests.unit.test_migrations import OLD


@pytest.fixture
async def target(postgres: Postgres) -> str:
    return postgres.url(await postgres.new_database())


@pytest.fixture
async def source(tmp_path: Path) -> str:
    """SQLite with more rows than go into one batch."""
    database = Database.in_folder(tmp_path)
    threads = Threads(database)
    ann = await Visitors(database).add("ann", {"preferences": {"temperature": 0.5}})
    for n in range(3):
        for k in range(90):
            await threads.save_step(
                Step(f"{n}-{k}", f"t{n}", output=f"Привет 🍚 {k}", metadata={"n": [k, None]}), ann.id
            )
        await threads.save_element(Element(f"e{n}", f"t{n}", f"{n}-0", {"props": {"x": 1.5}}), ann.id)
    await threads.save("t0", ann.id, name="A name", tags=["x"])
    await threads.save_thumb("0-1", 1, "good")
    await threads.delete_step("1-5", ann.id)
    await threads.delete("t2")
    await database.close()
    return f"sqlite:///{tmp_path}/chat.db"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.storage.copy", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


async def copied(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, *arguments)


async def everything(url: str) -> dict[str, list[dict[str, Any]]]:
    database = Database(url)
    rows = {}
    async with database.read() as connection:
        for table in metadata.sorted_tables:
            found = await connection.execute(select(table).order_by(*table.primary_key))
            rows[table.name] = [dict(row) for row in found.mappings()]
    await database.close()
    return rows


def refused(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line that it ended with."""
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    line = ended.stderr.replace("\r", "\n").strip().splitlines()[-1]
    assert line.startswith("chainlit-ollama: nothing was copied: ")
    return line.removeprefix("chainlit-ollama: nothing was copied: ")


async def test_every_row_is_copied_and_counted(source: str, target: str) -> None:
    ended = await copied("--from", source, "--to", target.replace("+asyncpg", ""))
    assert ended.returncode == 0, ended.stderr
    told = dict(reversed(part.split()) for part in ended.stdout.removeprefix("copied: ").strip().split(", "))
    assert set(told) == set(metadata.tables)
    filled = {"deleted_threads": "1", "users": "1", "threads": "2", "elements": "2", "steps": "179", "feedback": "1"}
    assert {name: rows for name, rows in told.items() if rows != "0"} == filled
    assert "186/186" in ended.stderr
    before = await everything(source.replace("sqlite:", "sqlite+aiosqlite:"))
    assert await everything(target) == before
    assert before["steps"][1]["output"] == "Привет 🍚 1"


async def test_the_copy_is_gone_on_with(source: str, target: str) -> None:
    assert (await copied("--from", source, "--to", target)).returncode == 0
    database = Database(target)
    threads = Threads(database)
    ann = await Visitors(database).add("ann", {})
    await threads.save_step(Step("new", "t1", output="after the copy"), ann.id)
    await threads.save_element(Element("new", "t1", None, {}), ann.id)
    kept = await threads.get("t1")
    assert kept is not None
    assert [step.id for step in kept.steps][-2:] == ["1-89", "new"]
    assert [element.id for element in kept.elements] == ["e1", "new"]
    assert [thread.id for thread in (await threads.list(ann.id, first=9, search="ПРИВЕТ 🍚 7")).threads] == ["t1", "t0"]
    with pytest.raises(LookupError):
        await threads.save_step(Step("late", "t2"), ann.id)
    await database.close()


async def test_an_old_database_is_copied_too(tmp_path: Path, target: str) -> None:
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript(OLD[0].read_text(encoding="utf-8"))
    connection.close()
    ended = await copied("--from", f"sqlite:///{tmp_path}/old.db", "--to", target)
    assert ended.returncode == 0, ended.stderr
    database = Database(target)
    assert await Threads(database).author("thread-rice") == "anon-ann"
    await database.close()


async def test_what_postgresql_does_not_take_is_left_out(tmp_path: Path, target: str) -> None:
    """No row of ours has it, but SQLite would take it from anybody."""
    database = Database.in_folder(tmp_path)
    ann = await Visitors(database).add("ann", {})
    await Threads(database).save_step(Step("q", "t", output="x", metadata={"a": 1}), ann.id)
    await database.close()
    with sqlite3.connect(tmp_path / "chat.db") as connection:
        connection.execute("UPDATE steps SET output = 'a' || char(0) || 'b', metadata = '{\"n\": NaN}'")
    connection.close()
    ended = await copied("--from", f"sqlite:///{tmp_path}/chat.db", "--to", target)
    assert ended.returncode == 0, ended.stderr
    (step,) = (await everything(target))["steps"]
    assert (step["output"], step["metadata"]) == ("ab", {"n": None})


async def test_a_target_that_is_not_empty_is_left_alone(source: str, target: str) -> None:
    database = Database(target)
    await Visitors(database).add("bob", {})
    await database.close()
    before = await everything(target)
    assert refused(await copied("--from", source, "--to", target)) == ("the target is not empty: it has rows in users")
    assert await everything(target) == before


async def test_a_copy_that_breaks_leaves_the_target_empty(
    source: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    def step(done: int, total: int) -> None:
        if done > total / 2:
            raise Interrupted

    old, new = Database(source.replace("sqlite:", "sqlite+aiosqlite:")), Database(target)
    with pytest.raises(Interrupted):
        await copying.copy(old, new, step)
    await old.close()
    await new.close()
    assert not any((await everything(target)).values())


async def test_a_count_that_differs_in_the_end_undoes_the_copy(postgres: Postgres, source: str, target: str) -> None:
    database = Database(target)
    await database.open()
    await database.close()
    name = target.rpartition("/")[2]
    await postgres.execute("CREATE RULE lose AS ON INSERT TO elements WHERE NEW.id = 'e1' DO INSTEAD NOTHING", name)
    line = refused(await copied("--from", source, "--to", target))
    assert line == "elements: 2 rows were read and 1 are there"
    assert not any((await everything(target)).values())


@pytest.mark.parametrize(
    ("origin", "aim", "code", "says"),
    [
        ("sqlite:///missing.db", "postgresql://u:p@127.0.0.1:1/x", 1, "the source is not there: missing.db"),
        ("postgresql://u:p@h/x", "postgresql://u:p@127.0.0.1:1/x", 2, "--from takes the path of a file"),
        ("nonsense", "postgresql://u:p@127.0.0.1:1/x", 2, "--from takes the path of a file"),
        ("sqlite:///README.md", "mysql://u:secret@h/x", 2, "--to takes an address such as postgresql+asyncpg://"),
        ("sqlite:///README.md", "sqlite:///other.db", 2, "--to takes an address such as postgresql+asyncpg://"),
    ],
)
def test_a_wrong_address_is_told_in_one_line(origin: str, aim: str, code: int, says: str) -> None:
    ended = run("--from", origin, "--to", aim)
    assert ended.returncode == code
    assert refused(ended).startswith(says)
    assert ended.stderr.count("\n") == 1
    assert "secret" not in ended.stderr


async def test_a_target_that_is_away_or_refuses_is_told_in_one_line(postgres: Postgres, source: str) -> None:
    away = await copied("--from", source, "--to", "postgresql://u:secret@127.0.0.1:1/x")
    assert refused(away).startswith("the target cannot be opened: ")
    wrong = await copied("--from", source, "--to", postgres.url("postgres", "wrong"))
    assert refused(wrong) == 'the target cannot be opened: password authentication failed for user "chat"'


async def test_a_source_that_is_no_database_is_told_in_one_line(tmp_path: Path, target: str) -> None:
    (tmp_path / "text").write_text("no database " * 100, encoding="utf-8")
    ended = await copied("--from", f"sqlite:///{tmp_path}/text", "--to", target)
    assert refused(ended) == "the source cannot be opened: file is not a database"
