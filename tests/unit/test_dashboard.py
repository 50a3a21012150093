"""What the dashboard tells, and that it costs little and shows nobody's words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from app.api.dashboard import PLOTLY, dashboard_routes
from app.api.near import is_here
from app.assembly.layers import add_refusals
from app.chat import Chat
from app.dashboard import Dashboard, Parts
from app.default_model import DefaultModelFinder, Wishes
from app.engines.catalog import Catalog
from app.errors import EngineUnreachable
from app.memory import Memory, memory_now
from app.page.standing import Standing, nobodys
from app.samples import Samples
from app.settings import ROOT
from app.stats import Stats
from app.storage.accounts import Rights
from app.storage.database import Database
from app.storage.hourly import Hourly, HourlyLog
from app.storage.problems import DatabaseAway
from app.storage.requests import RequestRow, Requests
from tests.fakes.engine import ScriptedEngine
from tests.log_rows import row

NOW = datetime(2026, 11, 21, 19, 30, tzinfo=UTC)
MEMORY = Memory(200, 900, 1000, "container")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A log of requests that notes how often it is read, and takes its time."""

    def __init__(self, clock: Clock, found: Hourly | None = None, takes: float = 0.0) -> None:
        self.clock, self.found, self.takes = clock, found, takes
        self.read: list[str] = []

    async def __call__(self, since: str) -> Hourly:
        self.read.append(since)
        self.clock.now += self.takes
        if self.found is None:
            raise DatabaseAway("nobody answers")
        return self.found


def board(
    read_log: Any = None, rows: Sequence[RequestRow] = (), passing: Clock | None = None, **more: Any
) -> Dashboard:
    engine = more.pop("engine", None) or ScriptedEngine()
    catalog = Catalog([engine])
    chat = Chat(catalog)
    stats = Stats(1000, clock=NOW.timestamp)
    stats.load(rows)
    samples = Samples(lambda: MEMORY, lambda: chat.serving, lambda: chat.waiting, clock=NOW.timestamp)
    wishes = Wishes("", ("gemma2:2b",), (), ollama_url="http://localhost:11434")
    finder = DefaultModelFinder(wishes, catalog, pull=lambda _: None, download=None)  # type: ignore[arg-type,return-value]
    parts = Parts(
        chat=chat,
        engines=(engine,),
        finder=finder,
        stats=stats,
        samples=samples,
        read_log=read_log,
        database=None,
        open_pages=lambda: 3,
        unsaved=lambda: 0,
    )
    return Dashboard(parts, clock=NOW.timestamp, passing=passing or Clock())


async def test_each_hour_has_its_place_and_empty_ones_are_there(database: Database) -> None:
    rows = [
        row(NOW - timedelta(hours=23), queue_ms=50.0),
        row(NOW - timedelta(hours=24)),  # ended before the first hour that is shown
        row(NOW, status="failed", time_to_first_token_ms=None),
        row(NOW, model_name="phi3", generation_ms=8000.0, left_out=1),
    ]
    await Requests(database).add(rows)
    found = (await board(HourlyLog(database, 1000).since).of("day"))["replies"]
    assert (found["source"], found["whole"]) == ("log", True)
    assert (found["hours"][0], found["hours"][-1]) == ("2026-11-20T20:00:00Z", "2026-11-21T19:00:00Z")
    assert len(found["hours"]) == 24
    nothing: list[float] = [0] * 22
    assert found["outcomes"] == {
        "finished": [1, *nothing, 1],
        "stopped": [0, *nothing, 0],
        "failed": [0, *nothing, 1],
    }
    assert found["response_tokens"] == [40, *nothing, 80]
    assert found["left_out"] == [0, *nothing, 1]
    assert found["waiting_ms"]["p95"] == [50, *[None] * 22, 0]
    assert found["first_ms"]["p99"] == [1000, *[None] * 22, 1000]
    speeds = {model["id"]: (model["replies"], model["speed"], model["speeds"][-1]) for model in found["models"]}
    assert speeds == {"ollama/gemma2:2b": (2, 10, None), "ollama/phi3": (1, 5, 5)}


async def test_a_week_has_all_its_hours() -> None:
    found = (await board(Log(Clock(), Hourly([], {}, {}))).of("week"))["replies"]
    assert len(found["hours"]) == 168
    assert found["hours"][0] == "2026-11-14T20:00:00Z"


async def test_without_a_log_it_shows_what_is_in_memory_and_says_so() -> None:
    found = (await board(rows=[row(NOW)] * 3).of("day"))["replies"]
    assert found["source"] == "no_log"
    assert found["outcomes"]["finished"][-1] == 3


async def test_while_the_database_is_away_the_rest_is_shown() -> None:
    found = await board(Log(Clock()), rows=[row(NOW)]).of("day")
    assert found["replies"]["source"] == "database_away"
    assert found["replies"]["outcomes"]["finished"][-1] == 1
    assert found["now"]["engines"][0]["label"] == "Ollama"


async def test_however_many_look_the_log_is_counted_once_in_a_while() -> None:
    clock = Clock()
    log = Log(clock, Hourly([], {}, {}))
    shown = board(log, passing=clock)
    for _ in range(5):
        await shown.of("day")
    assert len(log.read) == 1
    clock.now += 11
    await shown.of("day")
    assert len(log.read) == 2


async def test_a_log_that_takes_long_is_counted_seldom() -> None:
    clock = Clock()
    log = Log(clock, Hourly([], {}, {}), takes=2)
    shown = board(log, passing=clock)
    await shown.of("day")
    clock.now += 30
    await shown.of("day")
    assert len(log.read) == 1
    clock.now += 11
    await shown.of("day")
    assert len(log.read) == 2


async def test_how_the_server_stands_is_told_anew_each_time() -> None:
    engine = ScriptedEngine()
    shown = board(Log(Clock(), Hourly([], {}, {})), engine=engine)
    now = (await shown.of("day"))["now"]
    assert now["engines"] == [
        {
            "name": "ollama",
            "label": "Ollama",
            "status": "unknown",
            "error": None,
            "slots": 1,
            "serving": 0,
            "waiting": 0,
        }
    ]
    assert now["memory"] == {"program": 200, "used": 900, "limit": 1000, "of": "container"}
    assert (now["open_pages"], now["database"], now["samples"]["used"]) == (3, "off", [900])


async def test_nothing_in_it_names_a_visitor_an_address_or_what_was_said() -> None:
    clock = Clock()
    url = "http://secret-host:11434"
    engine = ScriptedEngine()
    engine.problem = EngineUnreachable(engine="Ollama", url=url)
    shown = board(rows=[row(NOW, client="secret-visitor", input_text="secret words")], passing=clock, engine=engine)
    await shown._parts.chat.catalog.everything()
    told = await shown.of("day")
    assert told["now"]["engines"][0]["status"] == "away"
    assert told["now"]["engines"][0]["error"] == "engine_unreachable"
    assert "secret" not in json.dumps(told)


def files(root: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:  8000 kB\nMemFree: 1 kB\nMemAvailable:  6000 kB\nHugePages_Total: 0\n"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, (None, None, "machine")),
        ({"proc__meminfo": MEMINFO}, (2000 * 1024, 8000 * 1024, "machine")),
        (
            {
                "proc__meminfo": MEMINFO,
                "proc__self__cgroup": "0::/\n",
                "sys__fs__cgroup__memory_dot_max": "4096000\n",
                "sys__fs__cgroup__memory_dot_current": "3000000\n",
                "sys__fs__cgroup__memory_dot_stat": "anon 5\ninactive_file 1000000\n",
            },
            (2_000_000, 4_096_000, "container"),
        ),
        (
            {
                "proc__meminfo": MEMINFO,
                "proc__self__cgroup": "0::/\n",
                "sys__fs__cgroup__memory_dot_max": "max\n",
                "sys__fs__cgroup__memory_dot_current": "3000000\n",
            },
            (2000 * 1024, 8000 * 1024, "machine"),
        ),
        (
            {
                "proc__meminfo": MEMINFO,
                "proc__self__cgroup": "1:memory:/\n",
                "sys__fs__cgroup__memory__memory_dot_limit_in_bytes": "4096000\n",
                "sys__fs__cgroup__memory__memory_dot_usage_in_bytes": "3000000\n",
                "sys__fs__cgroup__memory__memory_dot_stat": "total_inactive_file 500000\n",
            },
            (2_500_000, 4_096_000, "container"),
        ),
        (
            {
                "proc__meminfo": MEMINFO,
                "proc__self__cgroup": "1:memory:/\n",
                "sys__fs__cgroup__memory__memory_dot_limit_in_bytes": str(2**63 - 4096),
                "sys__fs__cgroup__memory__memory_dot_usage_in_bytes": "3000000\n",
            },
            (2000 * 1024, 8000 * 1024, "machine"),
        ),
    ],
    ids=["not Linux", "a machine", "a container", "a container without a limit", "version 1", "version 1 without"],
)
def test_memory_is_told_against_the_limit_that_counts(tmp_path: Path, texts: dict[str, str], expected: Any) -> None:
    found = memory_now(files(tmp_path, **texts))
    assert (found.used, found.limit, found.of) == expected


def test_this_process_has_memory() -> None:
    found = memory_now()
    assert found.program is not None
    assert found.program > 1_000_000


def request(client: str, host: str = "localhost:8000", **headers: str) -> Request:
    sent = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": raw, "client": (client, 1)})


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_who_asks_from_this_machine_is_here(client: str, host: str) -> None:
    assert is_here(request(client, host))
    assert is_here(request(client, host, x_forwarded_for="127.0.0.1"))


@pytest.mark.parametrize(
    "asked",
    [
        request("192.168.1.7"),
        request("10.0.0.1"),
        request("203.0.113.9"),
        request("testclient"),
        request("127.0.0.1", x_forwarded_for="203.0.113.9"),
        request("127.0.0.1", x_forwarded_for="127.0.0.1, 192.168.1.7"),
        request("127.0.0.1", x_real_ip="192.168.1.7"),
        request("127.0.0.1", forwarded="for=203.0.113.9"),
        request("127.0.0.1", host="chat.example.org"),
        request("127.0.0.1", host="localhost.example.org"),
        request("127.0.0.1", host="[::1"),
        request("127.0.0.1", host=""),
    ],
    ids=lambda asked: str(dict(asked.headers)),
)
def test_nobody_else_is_here(asked: Request) -> None:
    assert not is_here(asked)


async def test_only_an_administrators_account_that_may_sign_in_is_one() -> None:
    known = {"ann": Rights("1", 0, False, "admin"), "bob": Rights("2", 0, False), "eve": Rights("3", 0, True, "admin")}

    async def rights(name: str) -> Rights | None:
        return known.get(name)

    standing = Standing(nobodys, rights)
    assert [await standing.is_admin(name) for name in ("ann", "bob", "eve", "nobody")] == [True, False, False, False]
    assert not await Standing(nobodys, None).is_admin("ann")


async def test_who_may_look_is_remembered_while_the_database_is_away() -> None:
    away = False

    async def rights(name: str) -> Rights | None:
        if away:
            raise DatabaseAway("nobody answers")
        return Rights("1", 0, False, "admin")

    standing = Standing(nobodys, rights)
    assert await standing.is_admin("ann")
    away = True
    assert await standing.is_admin("ann")
    with pytest.raises(DatabaseAway):
        await standing.is_admin("eve")


async def test_where_nobody_can_tell_who_asks_nothing_is_shown() -> None:
    async def away(name: str) -> Rights | None:
        raise DatabaseAway("nobody answers")

    app = FastAPI()
    app.include_router(dashboard_routes(board(), Standing(nobodys, away)))
    add_refusals(app)

    async def signed_in(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"identifier": "ann"}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(signed_in), base_url="http://localhost") as client:
        page = await client.get("/dashboard", headers={"Accept-Language": "ru"})
        data = await client.get("/api/dashboard")
    assert (page.status_code, data.status_code) == (503, 503)
    assert "База данных не отвечает" in page.text
    assert "dashboard.js" not in page.text
    assert data.json()["code"] == "database_away"


async def test_whoever_asks_a_container_is_told_how_to_come_in() -> None:
    app = FastAPI()
    app.include_router(dashboard_routes(board(), Standing(nobodys, None), in_a_container=True))
    add_refusals(app)
    transport = httpx.ASGITransport(app, client=("172.17.0.1", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        page = await client.get("/dashboard")
        data = await client.get("/api/dashboard", headers={"Accept-Language": "ru"})
    assert (page.status_code, data.status_code) == (403, 403)
    assert "docker exec -it chainlit-ollama python -m app.users add NAME --admin" in page.text
    assert "ssh" not in page.text
    assert "docker compose exec chat python -m app.users add ИМЯ --admin" in data.json()["detail"]


def test_the_library_is_the_one_that_was_published() -> None:
    data = (ROOT / "public" / "vendor" / PLOTLY).read_bytes()
    assert sha256(data).hexdigest() == "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
    assert PLOTLY in (ROOT / "public" / "dashboard" / "drawing.js").read_text()
    assert "MIT License" in (ROOT / "public" / "vendor" / "plotly-basic-4.1.1.LICENSE.txt").read_text()
