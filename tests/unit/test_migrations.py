"""How the tables are made and brought up to date, and what stands in the way of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from app.settings import ROOT
from app.storage import migrate
from app.storage.connect import make_engine
from app.storage.database import Database
from app.storage.problems import DatabaseAway, DatabaseRefused
from app.storage.records import Element, Step
from app.storage.tables import REVISION, metadata
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from tests.postgres import Postgres

# Made by the program as it was: before it had migrations, and each time that its tables had changed.
OLD: Final = sorted((ROOT / "tests" / "data" / "storage").glob("*.sql"))


@pytest.fixture(params=OLD, ids=lambda file: file.stem)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a database of an older version."""
    with sqlite3.connect(tmp_path / "chat.db") as connection:
        connection.executescript(request.param.read_text(encoding="utf-8"))
    connection.close()
    return tmp_path


def difference(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


async def test_the_migrations_make_the_tables_that_the_program_knows(database: Database) -> None:
    async with database.read() as connection:
        assert await connection.run_sync(difference) == []
        assert (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalars().all() == [REVISION]


def test_the_newest_migration_is_the_one_that_the_program_wants() -> None:
    script = ScriptDirectory(str(ROOT / "app" / "storage" / "migrations"))
    assert script.get_heads() == [REVISION]


async def test_a_difference_between_tables_and_migrations_would_be_seen(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("ALTER TABLE steps ADD COLUMN more INTEGER"))
        await connection.execute(text("DROP INDEX elements_by_step"))
    async with database.read() as connection:
        found = await connection.run_sync(difference)
    assert sorted(change[0] for change in found) == ["add_index", "remove_column"]


async def test_an_old_database_is_taken_over_with_its_data(old: Path) -> None:
    database = Database.in_folder(old)
    await database.open()
    threads, visitors = Threads(database), Visitors(database)
    rice = await threads.get("thread-rice")
    assert rice is not None
    assert (rice.thread.visitor, rice.thread.name, rice.thread.tags) == ("anon-ann", "How do I cook rice? 🍚", ["x"])
    assert rice.thread.metadata == {"chat_settings": {"model": "guide"}}
    assert (rice.thread.created_at, rice.thread.updated_at) == (
        "2026-11-20T08:00:03.000000+00:00",
        "2026-11-20T08:00:06.000000+00:00",
    )
    assert [step.id for step in rice.steps] == ["rice-q", "rice-t", "rice-a"]
    assert rice.steps[0].output == "How do I cook rice? 🍚"
    assert rice.steps[0].metadata == {"tokens": {"guide": 7}}
    assert rice.steps[1] == Step(
        id="rice-t",
        thread_id="thread-rice",
        type="llm",
        name="Thinking",
        output="Water first;\nthen it's 'rice'.",
        display={"showInput": False, "defaultOpen": False},
        created_at="2026-11-20T08:00:01Z",
        started_at="2026-11-20T08:00:01Z",
        ended_at="2026-11-20T08:00:02Z",
    )
    props = {"phase": "finished", "metrics": {"seconds": 1.5}}
    content = {"id": "rice-e", "type": "custom", "name": "ReplyStatus", "props": props}
    assert rice.elements == (Element("rice-e", "thread-rice", "rice-a", content),)
    assert (rice.thumbs["rice-a"].value, rice.thumbs["rice-a"].comment) == (1, "tasty")
    assert await visitors.preferences("anon-ann") == {"temperature": 0.7, "system_prompt": "Кратко"}
    bob = await visitors.get("anon-bob")
    assert bob is not None
    assert [thread.id for thread in (await threads.list(bob.id, first=9, search="привет")).threads] == ["thread-ru"]
    with pytest.raises(LookupError):
        await threads.save("thread-gone", bob.id)
    await threads.save_step(Step("new", "thread-ru", output="more"), bob.id)
    ru = await threads.get("thread-ru")
    assert ru is not None
    assert [step.id for step in ru.steps] == ["ru-q", "new"]
    await database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_postgresql_as_it_was_at_first_is_upgraded_with_its_data(database_url: str) -> None:
    engine = make_engine(database_url, migrating=True)
    async with engine.begin() as connection:

        def as_it_was(plain: Connection) -> None:
            config = Config(attributes={"connection": plain})
            config.set_main_option("script_location", str(ROOT / "app" / "storage" / "migrations"))
            command.upgrade(config, "0002")

        await connection.run_sync(as_it_was)
        when = "2026-11-20T08:00:00.000000+00:00"
        await connection.execute(
            text("INSERT INTO users (id, identifier, metadata, created_at) VALUES ('u', 'anon-ann', '{}', :when)"),
            {"when": when},
        )
    await engine.dispose()
    database = Database(database_url)
    await database.open()
    ann = await Visitors(database).get("anon-ann")
    assert ann is not None
    assert (ann.id, ann.token_version) == ("u", 0)
    async with database.read() as connection:
        assert await connection.run_sync(difference) == []
    await database.close()


def schema(file: Path) -> set[tuple[str, str, str]]:
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {(kind, name, " ".join(sql.split())) for kind, name, sql in rows}


async def test_an_old_database_ends_as_a_new_one_begins(old: Path) -> None:
    (old / "new").mkdir()
    for folder in (old, old / "new"):
        database = Database.in_folder(folder)
        await database.open()
        async with database.read() as connection:
            assert await connection.run_sync(difference) == []
        await database.close()
    assert schema(old / "chat.db") == schema(old / "new" / "chat.db")


PROGRAM: Final = """
import asyncio, sys
from app.storage.database import Database
from app.storage.visitors import Visitors
async def main():
    database = Database(sys.argv[1])
    sys.stdin.readline()
    await database.open()
    await Visitors(database).add(sys.argv[2], {})
    await database.close()
asyncio.run(main())
"""


async def start_together(url: str, programs: int = 4) -> None:
    """Several processes that open the same database at the same moment."""
    pipe = asyncio.subprocess.PIPE
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, url, f"visitor {n}", cwd=ROOT, env=os.environ, stdin=pipe, stderr=pipe
        )
        for n in range(programs)
    ]
    await asyncio.sleep(1)
    for error in await asyncio.gather(*(process.communicate(b"\n") for process in started)):
        assert error[1].decode() == ""
    assert [process.returncode for process in started] == [0] * programs


async def test_several_programs_may_start_on_a_new_database_at_once(database_url: str) -> None:
    await start_together(database_url)
    database = Database(database_url)
    for n in range(4):
        assert await Visitors(database).get(f"visitor {n}") is not None
    async with database.read() as connection:
        assert await connection.run_sync(difference) == []
    await database.close()


async def test_several_programs_may_start_on_an_old_database_at_once(old: Path) -> None:
    await start_together(f"sqlite+aiosqlite:///{old}/chat.db")
    database = Database.in_folder(old)
    assert await Threads(database).author("thread-rice") == "anon-ann"
    assert await Visitors(database).get("visitor 3") is not None
    await database.close()


async def test_who_waits_for_anothers_migration_finds_it_done(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen an empty database when the first of them begins."""
    first, second = Database(database_url), Database(database_url)
    seen = 0
    real = migrate._revision

    def count(connection: Connection) -> str | None:
        nonlocal seen
        seen += 1
        return real(connection)

    monkeypatch.setattr(migrate, "_revision", count)
    await asyncio.gather(first.open(), second.open())
    assert seen >= 3
    await asyncio.gather(first.close(), second.close())


async def test_two_that_make_the_same_file_at_once_both_open_it(tmp_path: Path) -> None:
    """One of them changes SQLite's journal mode while the other does: in one of ten rounds that was refused."""
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        first, second = Database.in_folder(folder), Database.in_folder(folder)
        await asyncio.gather(first.open(), second.open())
        await asyncio.gather(first.close(), second.close())


async def break_tables(url: str, *statements: str) -> None:
    engine = make_engine(url)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def test_the_tables_of_a_newer_version_are_left_alone(database: Database, database_url: str) -> None:
    await break_tables(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseRefused, match=f"9999.*newer version.*{REVISION}"):
        await Database(database_url).open()


@pytest.mark.parametrize("old", OLD[:1], indirect=True)
async def test_old_tables_of_an_unknown_version_are_left_alone(old: Path) -> None:
    await break_tables(f"sqlite+aiosqlite:///{old}/chat.db", "UPDATE schema_version SET version = 7")
    before = schema(old / "chat.db")
    with pytest.raises(DatabaseRefused, match=r"schema_version 7.*newer version"):
        await Database.in_folder(old).open()
    assert schema(old / "chat.db") == before


async def test_a_migration_that_fails_changes_nothing(database_url: str) -> None:
    """Tables of our names that are not ours, such as those of Chainlit's own data layer."""
    await break_tables(database_url, "CREATE TABLE steps (id TEXT)")
    with pytest.raises((DatabaseRefused, DatabaseAway), match="steps"):
        await Database(database_url).open()
    engine = make_engine(database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == ["steps"]
    await engine.dispose()


async def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "chat.db").write_text("my diary " * 1000, encoding="utf-8")
    with pytest.raises(DatabaseRefused) as refusal:
        await Database.in_folder(tmp_path).open()
    assert str(refusal.value) == "file is not a database"


# As a user who may not write everywhere: root may.
READ_ONLY: Final = """
import asyncio, os, pathlib, sys
from app.storage.database import Database
from app.storage.problems import DatabaseAway

async def main(folder):
    database = Database.in_folder(folder)
    await database.open()
    await database.close()
    (folder / "chat.db").chmod(0o444)
    database = Database.in_folder(folder)
    for _ in range(3):
        try:
            await database.open()
        except DatabaseAway as problem:
            print(problem)
    files = pathlib.Path("/proc/self/fd")
    print([link for link in (os.readlink(file) for file in files.iterdir() if file.exists()) if "chat.db" in link])

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells which files are open")
def test_a_file_that_cannot_be_opened_is_not_left_open() -> None:
    """One that was read-only would stay so for all later connections of the process."""
    with tempfile.TemporaryDirectory(prefix="chat-nobody-") as folder:
        user = []
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            user = ["setpriv", "--reuid=nobody", "--clear-groups"]
        command = [*user, sys.executable, "-B", "-c", READ_ONLY, folder]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "Permission denied" in ended.stderr or "No module named" in ended.stderr:
        pytest.skip("the program is where only root may read it")
    assert ended.stdout.splitlines() == ["attempt to write a readonly database"] * 3 + ["[]"]


async def test_a_database_in_another_encoding_is_refused(postgres: Postgres) -> None:
    name = await postgres.new_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(DatabaseRefused, match="encoding is LATIN1"):
        await Database(postgres.url(name)).open()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_foreign_keys_are_off_for_migrations_alone(database: Database, database_url: str) -> None:
    """With them on, a table that is made anew would take along all that refers to it."""
    for migrating, expected in ((True, 0), (False, 1)):
        engine = make_engine(database_url, migrating=migrating)
        async with engine.connect() as connection:
            assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar() == expected
        await engine.dispose()
