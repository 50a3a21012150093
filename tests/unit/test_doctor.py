"""The doctor: what it finds on machines that are well and on others, and that it always ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app import __version__
from app.assembly import answering as assembled
from app.assembly.answering import answering
from app.doctor import clock as clocks
from app.doctor.__main__ import examined, settings_and_what_is_wrong
from app.doctor.access import access
from app.doctor.check import Check, Finding, Patient
from app.doctor.clock import clock
from app.doctor.counting import counting
from app.doctor.database import database
from app.doctor.disks import disks
from app.doctor.machine import machine
from app.doctor.model import model
from app.doctor.ollama import TESTED, of_version, ollama
from app.doctor.other_engines import openai_server, transformers
from app.doctor.ports import ports
from app.doctor.report import Report, examine
from app.doctor.secrets import secrets
from app.machine import MIB, Machine, this_machine
from app.settings import ROOT, Settings
from app.storage.database import Database
from app.windows import Windows
from tests.fakes.ollama import FakeModel, FakeOllama
from tests.site import free_port

pytestmark = pytest.mark.usefixtures("nothing_set")

database_check = database  # beside the fixture of that name
NOBODY = "http://127.0.0.1:9"
_NOBODY = 65534
SMALL = Machine(4096 * MIB, 2)
RANDOM = "k3Jq9xT2vLw8Zr5Yb1Nc7Pd4Mf6Hg0Sa"


@asynccontextmanager
async def patient(
    found: Machine | None = SMALL,
    wrong: Sequence[Finding] = (),
    running: bool = False,
    root: Path = Path("/"),
    **set_to: Any,
) -> AsyncIterator[Patient]:
    settings = Settings(_env_file=None, **{"ollama_host": NOBODY, **set_to})
    answers = answering(settings, Windows())
    yield Patient(settings, wrong, answers, found, running, root)
    await answers.close()


async def of(check: Callable[[Patient], Any], **arguments: Any) -> dict[str, Finding]:
    async with patient(**arguments) as looked_at:
        return {finding.name: finding for finding in await check(looked_at)}


@asynccontextmanager
async def answers_with(body: str, *headers: str) -> AsyncIterator[int]:
    """A server that answers everything alike."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", "connection: close", *headers, "", body]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembled, "find_spec", lambda name: None)


# The whole report


async def test_a_machine_that_is_well_has_no_problem_and_no_warning() -> None:
    async with FakeOllama(speedup=1000) as fake:
        async with patient(
            ollama_host=fake.url, port=free_port(), llama_arg_cache_ram=1000, num_thread=2, host="127.0.0.1"
        ) as well:
            report = await examine(well)
        assert {f.name: f.found for f in report.findings if f.status != "ok"} == {}
        assert report.exit_code == 0
        assert fake.requests == []  # nothing was loaded, nothing asked of a model


async def test_the_json_has_name_status_found_and_advice_of_each() -> None:
    line = "PORT='x' is not allowed: it takes a number"
    async with patient(wrong=[Finding("settings", "problem", line)]) as ill:
        report = await examine(ill)
    told = json.loads(report.as_json())
    assert set(told) == {"status", "checks"}
    assert told["status"] == "problem"
    assert all(set(check) == {"name", "status", "found", "advice"} for check in told["checks"])
    assert told["checks"][0] | {"advice": ""} == {
        "name": "settings",
        "status": "problem",
        "found": line,
        "advice": "",
    }
    assert {check["status"] for check in told["checks"]} <= {"ok", "warning", "problem"}


async def test_the_table_has_a_line_for_each_and_tells_what_to_do_under_it() -> None:
    async with patient(trusted_proxies="*") as ill:
        table = (await examine(ill)).as_table()
    line = next(n for n, text in enumerate(table.splitlines()) if text.startswith("warning  proxy headers"))
    assert table.splitlines()[line + 1].lstrip().startswith("-> ")
    assert all(finding.strip() for finding in table.split("\n\n")[0].splitlines())
    one = Report((Finding("one", "problem", ""), Finding("two", "ok", ""), Finding("three", "ok", "")), False)
    assert one.as_table().splitlines()[-1] == "1 problem, 0 warnings, 2 ok"


@pytest.mark.usefixtures("without_transformers")
async def test_no_engine_at_all_is_a_problem(tmp_path: Path) -> None:
    async with patient(root=tmp_path) as ill:
        report = await examine(ill)
    assert report.exit_code == 1
    assert [f.name for f in report.findings if f.status == "problem"] == ["model"]
    assert "make run installs" in next(f.advice for f in report.findings if f.name == "model")


async def test_no_secret_is_ever_printed() -> None:
    async with patient(
        secret_key=f"sec{RANDOM}",
        api_keys=f"bob:api{RANDOM},weak:abc",
        metrics_token=f"met{RANDOM}",
        vllm_api_key=f"vll{RANDOM}",
        vllm_url=f"http://ann:vurl{RANDOM}@127.0.0.1:9",
        ollama_host=f"http://ann:ourl{RANDOM}@127.0.0.1:9",
        database_url=f"postgresql://ann:dat{RANDOM}@127.0.0.1:9/chat",
        rate_limit_storage=f"redis://:red{RANDOM}@127.0.0.1:9",
    ) as ill:
        report = await examine(ill)
    told = report.as_json() + report.as_table()
    assert RANDOM not in told
    assert "can be guessed: weak" in told
    assert "abc" not in told


async def test_a_check_that_hangs_is_given_up_and_the_others_are_told() -> None:
    async def hangs(_: Patient) -> Sequence[Finding]:
        await asyncio.Event().wait()
        return []

    async def ends(_: Patient) -> Sequence[Finding]:
        return [Finding("well", "ok", "yes")]

    async with patient() as ill:
        report = await examine(ill, (Check("stuck", hangs), Check("well", ends)), patience=0.05)
    assert [(f.name, f.status) for f in report.findings] == [("settings", "ok"), ("stuck", "problem"), ("well", "ok")]
    assert report.unfinished


async def test_a_check_that_breaks_says_so_and_one_without_permission_warns() -> None:
    async def breaks(_: Patient) -> Sequence[Finding]:
        raise ZeroDivisionError("secret words")

    async def may_not(_: Patient) -> Sequence[Finding]:
        raise PermissionError(13, "Permission denied", "/private")

    async with patient() as ill:
        _, broken, unseen = (await examine(ill, (Check("one", breaks), Check("two", may_not)))).findings
    assert (broken.status, "secret words" in broken.found) == ("problem", False)
    assert (unseen.status, unseen.found) == ("warning", "/private cannot be looked at by this user")


# The command


def run(*words: str, env: dict[str, str] | None = None, cwd: Path = ROOT, **options: Any) -> tuple[int, dict[str, Any]]:
    ended = subprocess.run(
        [sys.executable, "-m", "app.doctor", "--json", *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OLLAMA_HOST": NOBODY, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert ended.stderr == ""
    return ended.returncode, json.loads(ended.stdout)


def test_wrong_settings_are_problems_and_everything_else_is_looked_at_all_the_same(tmp_path: Path) -> None:
    wrong = {"PORT": "99999", "NUM_CTX": "many", "SECRET_KEY": "hunter2hunter2", "MODEL_ALIASES": "fast"}
    code, told = run(env={**wrong, "API_KEYS": "no key"}, cwd=tmp_path)
    lines = [check["found"] for check in told["checks"] if check["name"] == "settings"]
    assert code == 1
    assert sorted(line.partition(" ")[0].partition("=")[0] for line in lines) == sorted([*wrong, "API_KEYS"])
    assert "hunter2" not in json.dumps(told)
    assert {"database", "clock", "model", "memory"} <= {check["name"] for check in told["checks"]}


async def test_whatever_hangs_it_ends(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    os.mkfifo(tmp_path / "secret.key")  # whoever opens it waits for somebody who writes
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        env = {
            "OLLAMA_HOST": where,
            "VLLM_URL": f"http://{where}",
            "DATABASE_URL": f"postgresql://{where}/chat",
            "RATE_LIMIT_STORAGE": f"redis://{where}",
            "DATA_DIR": str(tmp_path),
            "PORT": where.rpartition(":")[2],
            "HOST": "127.0.0.1",
        }
        code, told = await asyncio.to_thread(run, env=env, cwd=tmp_path)
    by_name = {check["name"]: check for check in told["checks"]}
    assert code == 1
    assert by_name["secrets"]["found"].startswith("no answer within")
    assert by_name["database"]["status"] == "problem"
    assert by_name["VLLM_URL"]["status"] == "problem"
    assert by_name["port"]["status"] == "problem"
    assert by_name["RATE_LIMIT"]["status"] == by_name["ollama"]["status"] == "warning"


def test_a_file_of_settings_that_hangs_does_not_hold_it_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys")
    # A folder's name makes a path of it, whatever it is.
    code, told = run(env={"API_KEYS": str(tmp_path / "keys")}, cwd=tmp_path)
    assert (code, [check["name"] for check in told["checks"]]) == (1, ["doctor"])


@pytest.mark.parametrize(
    "problem", [PermissionError(13, "Permission denied"), UnicodeDecodeError("utf-8", b"", 0, 1, "")]
)
def test_a_file_of_settings_that_cannot_be_read_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def unreadable(*_: object, **__: object) -> dict[str, str | None]:
        raise problem

    Path(".env").write_text("PORT=9000\n", encoding="utf-8")
    monkeypatch.setattr("pydantic_settings.sources.providers.dotenv.dotenv_values", unreadable)
    settings, (found,) = settings_and_what_is_wrong()
    assert (settings.port, found.status) == (8000, "warning")
    assert found.found.startswith(".env cannot be read")


async def test_what_this_user_may_not_see_is_a_warning(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "chat.db").write_bytes(b"")
    (data / "secret.key").write_text(RANDOM, encoding="ascii")
    data.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.setresuid(_NOBODY, _NOBODY, 0)
        async with patient(data_dir=data, tiktoken_cache_dir=data, running=True) as ill:
            report = await examine(ill)
    finally:
        if root:
            os.setresuid(0, 0, 0)
        data.chmod(0o700)
    unseen = {"disk of DATA_DIR", "database", "secret key", "private files", "tiktoken's table"}
    assert unseen <= {finding.name for finding in report.findings if finding.status == "warning"}


# Machine and disks


async def test_a_containers_limits_are_told_and_little_memory_is_a_warning() -> None:
    found = await of(machine, found=Machine(1024 * MIB, 0.5))
    assert (found["cores"].status, found["memory"].status) == ("warning", "warning")
    assert found["cores"].found.startswith("0.5 of")
    assert found["memory"].found.startswith("1,024 MiB")


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({"cpu.max": "150000 100000", "memory.max": f"{3072 * MIB}"}, "1.5", "3,072 MiB"),
        (
            {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}
            | {"memory/memory.limit_in_bytes": f"{2048 * MIB}"},
            "1",
            "2,048 MiB",
        ),
    ],
    ids=["v2", "v1"],
)
async def test_the_limits_are_those_of_control_groups(
    tmp_path: Path, files: dict[str, str], cores: str, memory: str
) -> None:
    told = {f"sys/fs/cgroup/{name}": limit for name, limit in files.items()}
    told["proc/meminfo"] = "MemTotal:       8388608 kB\n"
    told["proc/self/cgroup"] = "0::/\n5:memory:/\n4:cpu:/\n"
    for name, content in told.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="ascii")
    found = await of(machine, found=this_machine(tmp_path, processors=4))
    assert found["cores"].found.startswith(cores)
    assert found["memory"].found.startswith(memory)


async def test_a_machine_that_tells_nothing_is_a_warning() -> None:
    found = await of(machine, found=None)
    assert {finding.status for finding in found.values()} == {"warning"}


async def test_the_disks_are_those_of_the_data_and_of_the_models(tmp_path: Path) -> None:
    found = await of(disks, ollama_store=tmp_path, data_dir=tmp_path / "not" / "there")
    assert {name: finding.status for name, finding in found.items()} == {
        "disk of DATA_DIR": "ok",
        "disk of the models": "ok",
    }
    assert str(tmp_path) in found["disk of the models"].found


@pytest.mark.parametrize(("free", "status"), [(100, "problem"), (800, "warning"), (9000, "ok")])
async def test_a_disk_that_is_nearly_full_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, status: str
) -> None:
    usage = type("Usage", (), {"free": free * MIB})
    monkeypatch.setattr("app.doctor.disks.shutil.disk_usage", lambda _: usage)
    found = await of(disks, data_dir=tmp_path, ollama_store=tmp_path)
    assert found["disk of DATA_DIR"].status == status
    assert found["disk of the models"].status == ("ok" if status == "ok" else "warning")


async def test_a_file_in_the_place_of_the_data_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    assert (await of(disks, data_dir=tmp_path / "data"))["disk of DATA_DIR"].status == "problem"


# The port


def health(**changes: Any) -> str:
    process = {"version": __version__, "pid": 1, "uptime_seconds": 1, "memory_bytes": 1, "replies": 0, "waiting": 0}
    database = {"status": "ok", "state": "ok", "since": None, "waiting": 0, "lost": 0, "age_seconds": 1}
    default = {"id": None, "status": "loaded", "reason": "", "age_seconds": 1}
    told = {"status": "ok", "process": process, "engines": [], "database": database, "default_model": default}
    return json.dumps(told | changes)


async def test_a_free_port_is_well_and_so_is_our_own_server() -> None:
    assert "is free" in (await of(ports, host="127.0.0.1", port=free_port()))["port"].found
    async with answers_with(health()) as port:
        found = (await of(ports, host="127.0.0.1", port=port))["port"]
        assert (found.status, "our server runs" in found.found) == ("ok", True)
        assert "not to be seen from here" in found.advice
        assert (await of(ports, host="127.0.0.1", port=port, running=True))["port"].advice == ""
    async with answers_with(health(status="degraded")) as port:
        assert (await of(ports, host="127.0.0.1", port=port))["port"].status == "warning"


async def test_another_version_of_ours_wants_a_restart() -> None:
    process = json.loads(health())["process"] | {"version": "0.0.1"}
    async with answers_with(health(process=process)) as port:
        found = (await of(ports, host="127.0.0.1", port=port))["port"]
    assert (found.status, "restart" in found.advice) == ("warning", True)


async def test_another_program_on_the_port_is_a_problem() -> None:
    async with answers_with("hello") as port:
        found = (await of(ports, host="127.0.0.1", port=port))["port"]
    assert (found.status, f"PORT={port + 1}" in found.advice) == ("problem", True)
    assert (await of(ports, host="203.0.113.9"))["port"].status == "problem"


# Engines


async def test_an_ollama_is_told_with_its_version_and_its_models() -> None:
    async with FakeOllama() as fake:
        found = await of(ollama, ollama_host=fake.url)
        assert {name: finding.status for name, finding in found.items()} == {
            "ollama": "ok",
            "ollama's version": "ok",
            "ollama's models": "ok",
        }
        assert found["ollama's models"].found == "gemma2:2b"
        fake.models.clear()
        assert (await of(ollama, ollama_host=fake.url))["ollama's models"].status == "warning"


@pytest.mark.parametrize("fault", ["hang", "500", "cut"])
async def test_an_ollama_that_fails_is_a_warning(fault: Any) -> None:
    async with FakeOllama() as fake:
        fake.faults["/api/version"] = fault
        found = await of(ollama, ollama_host=fake.url, models_timeout=0.5)
    assert (list(found), found["ollama"].status) == (["ollama"], "warning")


async def test_an_ollama_that_nobody_asked_for_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(_env_file=None).wants_ollama
    assert Settings(_env_file=None, vllm_url=NOBODY, ollama_host=NOBODY).wants_ollama
    assert not Settings(_env_file=None, vllm_url=NOBODY).wants_ollama
    assert not Settings(_env_file=None, checkpoint=Path("runs/tales")).wants_ollama
    monkeypatch.setattr(Settings, "wants_ollama", False)
    found = await of(ollama)
    assert (list(found), found["ollama"].status) == (["ollama"], "ok")


async def test_a_checkpoint_that_cannot_be_served_is_a_problem(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, checkpoint=tmp_path / "none", data_dir=tmp_path, ollama_host=NOBODY)
    report = await examined(settings, (), running=False)
    found = next(finding for finding in report.findings if finding.name == "checkpoint")
    assert (found.status, report.exit_code) == ("problem", 1)


@pytest.mark.parametrize(
    ("version", "status", "word"),
    [
        ("0.32.15", "ok", "tested"),
        ("0.31.0", "ok", "older"),
        ("0.40.2", "ok", "newer"),
        ("0.29.9", "warning", "0.29.9"),
        ("unknown", "warning", "unknown"),
    ],
)
def test_versions_are_told_apart(version: str, status: str, word: str) -> None:
    found = of_version(version)
    assert (found.status, word in found.found) == (status, True)


def test_the_tested_version_is_the_one_of_the_image() -> None:
    told = re.search(r"OLLAMA_IMAGE=\S+:(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert told is not None
    assert told[1] == ".".join(map(str, TESTED))


async def test_a_server_that_is_set_and_away_is_a_problem_and_one_that_is_not_set_is_nothing() -> None:
    assert (await of(openai_server, vllm_url=NOBODY))["VLLM_URL"].status == "problem"
    assert await of(openai_server) == {}


@pytest.mark.usefixtures("without_transformers")
async def test_transformers_is_missed_only_where_a_model_needs_it() -> None:
    assert (await of(transformers))["transformers"].status == "ok"
    assert (await of(transformers, model="guide"))["transformers"].status == "problem"


async def test_the_model_its_context_and_its_cache_are_held_against_the_memory() -> None:
    async with FakeOllama() as fake:
        found = await of(model, ollama_host=fake.url)
        assert {name: finding.status for name, finding in found.items()} == {
            "model": "ok",
            "model's memory": "ok",
            "context and cache": "warning",
            "threads": "warning" if (os.cpu_count() or 1) > 2 else "ok",
        }
        # As app.sizing has it for 4 GB.
        assert "LLAMA_ARG_CACHE_RAM=1124" in found["context and cache"].advice
        assert "2,036 MiB of 3,776" in found["model's memory"].found
        found = await of(model, ollama_host=fake.url, llama_arg_cache_ram=1124, model_memory=2652, num_thread=2)
        assert {finding.status for finding in found.values()} == {"ok"}


async def test_ollamas_parallel_replies_take_their_memory() -> None:
    async with FakeOllama() as fake:
        found = await of(model, ollama_host=fake.url, num_ctx=8192, ollama_num_parallel=2)
        assert "3,284 MiB of 3,776" in found["model's memory"].found
        # Beside one conversation there would be room for 708.
        assert "LLAMA_ARG_CACHE_RAM=0" in found["context and cache"].advice


async def test_a_model_that_does_not_fit_is_a_problem_with_what_helps() -> None:
    async with FakeOllama(FakeModel("llama3.1:8b", size=4_900_000_000)) as fake:
        found = (await of(model, ollama_host=fake.url))["model's memory"]
        assert (found.status, "smaller model" in found.advice) == ("problem", True)
    async with FakeOllama() as fake:
        found = (await of(model, ollama_host=fake.url, num_ctx=8192, found=Machine(2700 * MIB, 2)))["model's memory"]
        assert (found.status, found.advice) == ("problem", "a shorter context: NUM_CTX=2048")


async def test_threads_beyond_the_quota_are_a_warning() -> None:
    async with FakeOllama() as fake:
        found = await of(model, ollama_host=fake.url, num_thread=8)
        assert (found["threads"].status, "NUM_THREAD=2" in found["threads"].advice) == ("warning", True)
        found = await of(model, ollama_host=fake.url, found=Machine(SMALL.memory, 0.5))
        assert (found["threads"].status, found["threads"].advice) == ("warning", "NUM_THREAD=1")


async def test_a_model_that_was_named_and_is_not_there_is_a_warning() -> None:
    async with FakeOllama() as fake:
        found = (await of(model, ollama_host=fake.url, model="llama9"))["model"]
        assert (found.status, "MODEL=llama9" in found.found, "ollama/gemma2:2b" in found.found) == (
            "warning",
            True,
            True,
        )


# The database, on both kinds


def where(url: str, folder: Path) -> dict[str, Any]:
    return {"data_dir": folder} if url.startswith("sqlite") else {"database_url": url}


async def test_a_database_that_is_not_there_yet_is_well_and_is_not_made(tmp_path: Path) -> None:
    assert (await of(database, data_dir=tmp_path))["database"].status == "ok"
    assert os.listdir(tmp_path) == []
    assert (await of(database, data_dir=tmp_path, history=False))["database"].found == "none: HISTORY is off"


async def test_a_database_that_works_is_well(database_url: str, database: Database, tmp_path: Path) -> None:
    found = (await of(database_check, **where(database_url, tmp_path)))["database"]
    assert (found.status, "takes writes" in found.found) == ("ok", True)


@pytest.mark.parametrize(("revision", "status"), [("0002", "warning"), ("9999", "problem")])
async def test_tables_of_another_version_are_told_and_left_alone(
    database_url: str, database: Database, tmp_path: Path, revision: str, status: str
) -> None:
    async with database.write() as connection:
        await connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
    assert (await of(database_check, **where(database_url, tmp_path)))["database"].status == status
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar() == revision


async def test_a_database_out_of_reach_or_broken_is_a_problem(tmp_path: Path) -> None:
    away = (await of(database, database_url="postgresql://ann:pw@127.0.0.1:9/chat"))["database"]
    assert (away.status, "DATABASE_URL" in away.advice) == ("problem", True)
    assert away.found.startswith("PostgreSQL: ")
    assert "Errno" not in away.found
    (tmp_path / "chat.db").write_bytes(b"this is no database" * 100)
    assert (await of(database, data_dir=tmp_path))["database"].status == "problem"


async def test_a_database_that_somebody_else_holds_is_a_problem_not_a_wait(tmp_path: Path) -> None:
    kept = Database.in_folder(tmp_path)
    await kept.open()
    await kept.close()
    with closing(sqlite3.connect(tmp_path / "chat.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = (await of(database, data_dir=tmp_path))["database"]
    assert (found.status, "locked" in found.found) == ("problem", True)


# Secrets


async def test_keys_that_can_be_guessed_are_warnings() -> None:
    found = await of(secrets, api_keys=f"good:{RANDOM},bad:abc", metrics_token="changeme-changeme")
    assert (found["API_KEYS"].status, found["API_KEYS"].found) == ("warning", "can be guessed: bad")
    assert found["METRICS_TOKEN"].status == "warning"
    found = await of(secrets, api_keys=f"good:{RANDOM}", metrics_token=RANDOM, secret_key=RANDOM)
    assert {finding.status for finding in found.values()} == {"ok"}


async def test_files_that_others_may_read_are_a_warning_with_the_command_that_helps(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    for file in (tmp_path / "secret.key", tmp_path / "chat.db", keys):
        file.write_text(RANDOM + RANDOM, encoding="ascii")
        file.chmod(0o600)
    assert (await of(secrets, data_dir=tmp_path, api_keys=str(keys)))["private files"].status == "ok"
    keys.chmod(0o640)
    found = (await of(secrets, data_dir=tmp_path, api_keys=str(keys)))["private files"]
    assert (found.status, found.advice) == ("warning", f"chmod 600 {keys}")


async def test_a_key_that_is_none_is_a_problem_and_one_to_be_made_is_not(tmp_path: Path) -> None:
    assert (await of(secrets, data_dir=tmp_path))["secret key"].status == "ok"
    assert os.listdir(tmp_path) == []
    (tmp_path / "secret.key").write_text("short", encoding="ascii")
    found = (await of(secrets, data_dir=tmp_path))["secret key"]
    assert (found.status, "Delete it" in found.advice) == ("problem", True)


# The clock


async def test_a_clock_that_is_not_where_ollamas_is_is_a_warning() -> None:
    async with answers_with("{}", "date: Sat, 01 Jan 2022 00:00:00 GMT") as port:
        found = (await of(clock, ollama_host=f"http://127.0.0.1:{port}"))["clock"]
    assert (found.status, "ahead of Ollama's" in found.found) == ("warning", True)
    async with answers_with("{}", f"date: {format_datetime(datetime.now(UTC), usegmt=True)}") as port:
        found = (await of(clock, ollama_host=f"http://127.0.0.1:{port}"))["clock"]
    assert (found.status, found.found.endswith("as Ollama has it")) == ("ok", True)


async def test_a_date_before_the_programs_own_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    os.utime(tmp_path / "app" / "__init__.py", (4e9, 4e9))
    monkeypatch.setattr(clocks, "ROOT", tmp_path)
    assert (await of(clock))["clock"].status == "problem"


async def test_postgresqls_clock_is_compared(postgres: Any) -> None:
    found = (await of(clock, database_url=postgres.url(await postgres.new_database())))["clock"]
    assert (found.status, found.found.endswith("as PostgreSQL has it")) == ("ok", True)


# Who comes in


@pytest.mark.parametrize(
    ("trusted", "status"), [("*", "warning"), ("0.0.0.0/0", "warning"), ("10.0.0.0/8,::1", "ok"), ("127.0.0.1", "ok")]
)
async def test_proxies_that_could_be_anybody_are_a_warning(trusted: str, status: str) -> None:
    assert (await of(access, trusted_proxies=trusted))["proxy headers"].status == status


async def test_in_a_container_it_is_told_that_a_proxy_outside_has_another_address(tmp_path: Path) -> None:
    assert (await of(access, root=tmp_path))["proxy headers"].advice == ""
    (tmp_path / ".dockerenv").touch()
    assert "TRUSTED_PROXIES" in (await of(access, root=tmp_path))["proxy headers"].advice


@pytest.mark.parametrize("sign", [".dockerenv", "run/.containerenv"])
async def test_in_a_container_it_is_told_that_private_addresses_may_be_anybodys(tmp_path: Path, sign: str) -> None:
    assert (await of(secrets, root=tmp_path))["METRICS_TOKEN"].advice == ""
    (tmp_path / sign).mkdir(parents=True)
    assert "open internet" in (await of(secrets, root=tmp_path))["METRICS_TOKEN"].advice
    assert (await of(secrets, root=tmp_path, metrics_token=RANDOM))["METRICS_TOKEN"].advice == ""


async def test_no_login_on_all_addresses_is_a_hint_and_no_more() -> None:
    found = (await of(access))["login"]
    assert (found.status, bool(found.advice)) == ("ok", True)
    assert (await of(access, host="127.0.0.1"))["login"].advice == ""
    assert (await of(access, auth="password"))["login"].found == "AUTH=password"


async def test_limits_and_history_are_told() -> None:
    found = await of(access, rate_limit="20/minute", history_days=30, log_text=True)
    assert found["RATE_LIMIT"].found == "20/minute"
    assert (found["history"].found, bool(found["history"].advice)) == (
        "conversations are kept for 30 days, up to 2,048 MiB",
        True,
    )
    found = await of(access, rate_limit="20/minute", rate_limit_storage="redis://127.0.0.1:9", history=False)
    assert (found["RATE_LIMIT"].status, found["history"].status) == ("warning", "ok")


async def test_a_table_of_tiktoken_that_is_not_whole_is_a_warning(tmp_path: Path) -> None:
    assert (await of(counting))["tiktoken's table"].status == "ok"
    assert (await of(counting, tiktoken_cache_dir=tmp_path))["tiktoken's table"].status == "warning"
