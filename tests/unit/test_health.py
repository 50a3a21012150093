"""What probes are told, and that they cost neither engines nor database anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api import health as probes
from app.api.health import health_routes
from app.chat import Chat
from app.default_model import DefaultModelFinder, Wishes
from app.engines.base import ModelInfo
from app.engines.catalog import Catalog
from app.engines.ollama import OllamaEngine
from app.errors import EngineUnreachable
from app.history import SessionHistory, StoredMessage
from app.prompting import ReplyOptions
from app.storage.database import Database
from app.storage.problems import DatabaseAway
from tests.fakes.engine import ScriptedEngine

AWAY = EngineUnreachable(engine="Ollama", url="http://localhost:11434")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class CountingEngine(ScriptedEngine):
    """Counts how often it is asked for its models, and can hang."""

    def __init__(self, *replies: Any, **arguments: Any) -> None:
        super().__init__(*replies, **arguments)
        self.asked = 0
        self.listing = asyncio.Event()
        self.listing.set()

    async def models(self) -> Sequence[ModelInfo]:
        self.asked += 1
        await self.listing.wait()
        if self.problem is not None:
            raise self.problem
        return await super().models()


class Site:
    """The routes over some engines."""

    def __init__(self, *engines: ScriptedEngine, database: Database | None = None, load: bool = True) -> None:
        self.clock = Clock()
        self.loading = asyncio.Event()
        self.loading.set()
        catalog = Catalog(engines, max_age=30, clock=self.clock)
        self.chat = Chat(catalog)

        async def loaded(_: ModelInfo) -> None:
            await self.loading.wait()

        self.finder = DefaultModelFinder(
            Wishes("", ("gemma2:2b",), (), ollama_url="http://localhost:11434"),
            catalog,
            pull=lambda _: None,  # type: ignore[arg-type,return-value]
            download=None,
            load=loaded if load else None,
            clock=self.clock,
        )
        app = FastAPI()
        app.include_router(
            health_routes(
                self.chat,
                self.finder,
                database,
                None,
                lost=lambda: 0,
                urls={"ollama": "http://localhost:11434"},
                missed=lambda engine: engine.ever_up or engine.name != "ollama",
                max_age=30,
            )
        )
        self.app = app
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")

    async def health(self) -> dict[str, Any]:
        answer = await self.http.get("/health")
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
async def site() -> AsyncIterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(*engines: ScriptedEngine, **arguments: Any) -> Site:
        made.append(Site(*engines, **arguments))
        return made[-1]

    yield make
    for one in made:
        await one.http.aclose()


async def settled(site: Site) -> None:
    """The search has found a model, and it is in memory."""
    await site.finder.look()
    while not site.finder.ready:
        await asyncio.sleep(0)


async def test_all_is_well(site: Callable[..., Site]) -> None:
    server = site(CountingEngine(models=["gemma2:2b", "phi3:latest"]))
    await settled(server)
    server.clock.now = 7
    health = await server.health()
    assert health["status"] == "ok"
    assert health["engines"] == [
        {
            "name": "ollama",
            "label": "Ollama",
            "status": "up",
            "url": "http://localhost:11434",
            "models": 2,
            "error": None,
            "age_seconds": 7.0,
        }
    ]
    assert health["default_model"] == {
        "id": "ollama/gemma2:2b",
        "status": "loaded",
        "reason": "gemma2:2b answers.",
        "age_seconds": 7.0,
    }
    assert health["database"]["state"] == health["database"]["status"] == "off"
    assert {"version", "pid", "uptime_seconds", "memory_bytes", "replies", "waiting"} == set(health["process"])


async def test_many_probes_ask_an_engine_once_in_a_while(site: Callable[..., Site]) -> None:
    engine = CountingEngine()
    server = site(engine)
    for second in range(61):
        server.clock.now = float(second)
        await server.health()
    assert engine.asked == 2
    await asyncio.gather(*(server.health() for _ in range(20)))
    assert engine.asked == 2


async def test_an_engine_that_hangs_holds_up_nobody(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_PATIENCE", 0.01)
    engine = CountingEngine()
    server = site(engine)
    engine.listing.clear()
    unknown = (await server.health())["engines"][0]
    assert (unknown["status"], unknown["age_seconds"]) == ("unknown", None)
    engine.listing.set()
    while (await server.health())["engines"][0]["status"] != "up":
        pass
    engine.listing.clear()
    server.clock.now = 100
    monkeypatch.setattr(probes, "_PATIENCE", 0.01)
    assert (await server.health())["engines"][0]["age_seconds"] == 100
    # One look is under way: nobody waits for it, nobody begins another.
    monkeypatch.setattr(probes, "_PATIENCE", 3600)
    for _ in range(5):
        assert (await server.health())["engines"][0]["status"] == "up"
    assert engine.asked == 2
    engine.listing.set()
    while (await server.health())["engines"][0]["age_seconds"]:
        pass


async def test_an_engine_that_breaks_breaks_no_probe(
    site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    engine = CountingEngine()
    engine.problem = ValueError("nobody has foreseen this")  # type: ignore[assignment]
    server = site(engine)
    assert (await server.health())["engines"][0]["status"] == "unknown"
    assert "could not be refreshed" in caplog.text
    engine.problem = None
    assert (await server.health())["engines"][0]["status"] == "up"


async def test_an_engine_that_goes_away_is_told_with_the_reason(site: Callable[..., Site]) -> None:
    engine = CountingEngine()
    server = site(engine)
    await settled(server)
    engine.problem = AWAY
    server.clock.now = 1
    await server.finder.look()
    health = await server.health()
    assert health["status"] == "degraded"
    (told,) = health["engines"]
    assert (told["status"], told["models"], told["error"]) == ("away", 0, AWAY.sentence("en"))
    assert health["default_model"]["status"] == "missing"
    assert health["default_model"]["id"] == "ollama/gemma2:2b"


@pytest.mark.parametrize(
    ("peer", "headers"), [("198.100.1.9", {}), ("127.0.0.1", {"X-Forwarded-For": "10.0.0.1, 198.100.1.9"})]
)
async def test_a_stranger_is_not_told_where_engines_are(
    site: Callable[..., Site], peer: str, headers: dict[str, str]
) -> None:
    engine = CountingEngine()
    server = site(engine)
    await settled(server)
    stranger = httpx.AsyncClient(
        transport=httpx.ASGITransport(server.app, client=(peer, 1)), base_url="http://server", headers=headers
    )
    (up,) = (await stranger.get("/health")).json()["engines"]
    assert (up["status"], up["url"], up["error"]) == ("up", None, None)
    engine.problem = AWAY
    server.clock.now = 31
    told = await stranger.get("/health")
    (away,) = told.json()["engines"]
    assert (away["status"], away["url"], away["error"]) == ("away", None, "engine_unreachable")
    assert "11434" not in told.text
    assert "11434" not in (await stranger.get("/ready")).text
    await stranger.aclose()


async def test_who_wants_the_status_alone_gets_it(site: Callable[..., Site]) -> None:
    server = site(CountingEngine())
    assert (await server.http.head("/health")).status_code == 200
    assert (await server.http.head("/ready")).status_code == 503
    await settled(server)
    assert (await server.http.head("/ready")).status_code == 200


async def test_an_ollama_that_was_never_there_is_not_missed_where_another_answers(site: Callable[..., Site]) -> None:
    ollama, vllm = CountingEngine(), CountingEngine(name="vllm", models=["qwen"])
    ollama.problem = AWAY
    server = site(ollama, vllm)
    await settled(server)
    health = await server.health()
    assert [engine["status"] for engine in health["engines"]] == ["away", "up"]
    assert health["status"] == "ok"
    ollama.problem, vllm.problem = None, AWAY
    server.clock.now = 1
    await server.finder.look()
    assert (await server.health())["status"] == "degraded"


async def test_the_default_model_on_its_way(site: Callable[..., Site]) -> None:
    server = site(CountingEngine())
    server.loading.clear()
    health = await server.health()
    assert (health["default_model"]["status"], health["status"]) == ("missing", "degraded")
    await server.finder.look()
    health = await server.health()
    assert (health["default_model"]["status"], health["status"]) == ("loading", "ok")
    server.loading.set()
    await settled(server)
    assert (await server.health())["default_model"]["status"] == "loaded"


async def test_a_model_that_is_loaded_on_first_use(site: Callable[..., Site]) -> None:
    server = site(CountingEngine(), load=False)
    await server.finder.look()
    assert (await server.health())["default_model"]["status"] == "unloaded"


async def test_what_is_worked_on_is_counted(site: Callable[..., Site]) -> None:
    engine = CountingEngine("one two")
    server = site(engine)
    turns = [
        server.chat.turn(SessionHistory(name), StoredMessage(name, "hi"), "a", ReplyOptions("gemma2:2b")).events()
        for name in "ab"
    ]
    async for _ in turns[0]:
        break
    async for _ in turns[1]:
        break
    process = (await server.health())["process"]
    assert (process["replies"], process["waiting"]) == (1, 1)
    for turn in turns:
        await turn.aclose()
    process = (await server.health())["process"]
    assert (process["replies"], process["waiting"]) == (0, 0)


async def test_the_database_is_asked_once_in_a_while(
    site: Callable[..., Site], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = site(CountingEngine(), database=database)
    await settled(server)
    before = database.age
    assert before is not None
    await server.health()
    assert database.age is not None
    assert database.age > before
    monkeypatch.setattr(database, "_asked_at", database._asked_at - 31)  # type: ignore[operator]
    health = await server.health()
    assert (health["status"], health["database"]["state"]) == ("ok", "ok")
    assert database.age < 30


async def test_a_database_that_is_away_is_told(site: Callable[..., Site]) -> None:
    database = Database("postgresql+asyncpg://me:hunter2@127.0.0.1:1/chat")
    server = site(CountingEngine(), database=database)
    await settled(server)
    with pytest.raises(DatabaseAway):
        await database.open()
    health = await server.health()
    assert (health["status"], health["database"]["state"]) == ("degraded", "away")
    assert health["database"]["since"] is not None
    assert "hunter2" not in str(health)
    await database.close()


async def test_all_of_it_is_described(site: Callable[..., Site]) -> None:
    document = (await site(CountingEngine()).http.get("/openapi.json")).json()
    answers = document["paths"]["/health"]["get"]["responses"]
    assert answers["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Health"}
    assert set(document["paths"]["/ready"]["get"]["responses"]) == {"200", "503"}


async def test_a_password_in_ollamas_address_is_sent_and_not_shown() -> None:
    seen: list[str | None] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        raise httpx.ConnectError("nobody")

    client = httpx.AsyncClient(transport=httpx.MockTransport(refuse))
    engine = OllamaEngine("http://me:hunter2@box:11434", client=client)
    with pytest.raises(EngineUnreachable) as away:
        await engine.models()
    assert seen[0] is not None
    assert seen[0].startswith("Basic ")
    assert "hunter2" not in str(away.value)
    assert "http://box:11434" in str(away.value)
    await engine.close()
