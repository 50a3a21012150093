"""What bounds imports: the room of one visitor, the tries of an address, one file at a time."""

from __future__ import annotations

import asyncio
import random
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from app.account_errors import AccountError
from app.api import my_data
from app.api.my_data import data_routes
from app.api.refused import Refused, account_refusal, refusal
from app.archive.conversation_file import to_json
from app.page.open_pages import OpenPages
from app.page.standing import Standing
from app.storage.database import Database
from app.storage.devices import Devices
from app.storage.records import Conversation, Step, Thread, Visitor
from app.storage.room import visitors_take
from app.storage.texts import new_id, now
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from app.tries import Tries

ANN = "anon-ann"
RUSSIAN = {"Accept-Language": "ru"}

Site = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def ann(database: Database) -> Visitor:
    return await Visitors(database).add(ANN, {})


@pytest.fixture
def site(database: Database, ann: Visitor, tmp_path: Path) -> Site:
    """Makes a client of the routes, who is Ann."""

    def make(*, share: int = 0, tries: int = 100) -> httpx.AsyncClient:
        app = FastAPI()
        app.state.visitors, app.state.login = Visitors(database), False
        standing = Standing(Devices(database).owner_of, None)
        app.include_router(
            data_routes(
                database,
                tmp_path,
                standing,
                OpenPages(None, standing, lambda session: None),
                history=True,
                most=4,
                share=share,
                tries=Tries(tries, 3600),
                stop_replies=nothing_to_stop,
                forget_waiting=nothing_to_stop,
                forget_logged=nothing_to_stop,
            )
        )
        app.add_exception_handler(Refused, refusal)
        app.add_exception_handler(AccountError, account_refusal)

        @app.middleware("http")
        async def is_ann(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
            request.state.identifier = request.state.device = ANN
            return await call_next(request)

        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")

    return make


async def nothing_to_stop(_: str) -> None:
    """There is no reply."""


def file_of(size: int) -> bytes:
    """A conversation that PostgreSQL cannot keep in less room than it has."""
    text = random.Random(size).randbytes(size * 3 // 4)
    thread = Thread(new_id(), "u", "bob", "Long", {}, [], now(), now())
    step = Step(new_id(), thread.id, type="user_message", name="You", output=b64encode(text).decode())
    return to_json(Conversation(thread, (step,), (), {}))


async def test_a_visitor_has_no_more_than_a_share_by_imports(site: Site, database: Database, ann: Visitor) -> None:
    client, first, second = site(share=1), file_of(600_000), file_of(600_001)
    assert (await client.post("/api/me/import", content=first)).json() == {"imported": 1, "skipped": 0}
    assert 550_000 < await visitors_take(database, ann.id) < 700_000
    english = await client.post("/api/me/import", content=second)
    russian = await client.post("/api/me/import", content=second, headers=RUSSIAN)
    for answer in (english, russian):
        assert (answer.status_code, answer.json()["code"]) == (413, "no_room")
    assert "more than 1 MiB" in english.json()["detail"]
    assert "больше 1 МиБ" in russian.json()["detail"]
    assert await Threads(database).count(ann.id) == 1
    assert (await client.post("/api/me/import", content=first)).json() == {"imported": 0, "skipped": 1}


async def test_without_a_cap_there_is_no_share(site: Site) -> None:
    client = site()
    for size in (600_000, 600_001):
        answer = await client.post("/api/me/import", content=file_of(size))
        assert answer.json() == {"imported": 1, "skipped": 0}


async def test_an_address_imports_so_often_only(site: Site) -> None:
    client = site(tries=2)
    for _ in range(2):
        assert (await client.post("/api/me/import", content=b"rice")).status_code == 422
    answer = await client.post("/api/me/import", content=file_of(100))
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_tries")
    assert 0 < int(answer.headers["retry-after"]) <= 3600


async def test_files_are_received_one_after_the_other(site: Site) -> None:
    client, heard = site(), list[str]()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def first() -> AsyncIterator[bytes]:
        heard.append("first")
        begun.set()
        yield b"ri"
        await go_on.wait()
        heard.append("first ends")
        yield b"ce"

    async def second() -> AsyncIterator[bytes]:
        heard.append("second")
        yield b"rice"

    one = asyncio.create_task(client.post("/api/me/import", content=first()))
    await begun.wait()
    other = asyncio.create_task(client.post("/api/me/import", content=second()))
    # A third that needs no turn has its answer by then; the second has had time to come so far.
    for _ in range(5):
        assert (await client.get("/api/me/conversations/none/export")).status_code == 404
    go_on.set()
    assert [(await answer).status_code for answer in (one, other)] == [422, 422]
    assert heard == ["first", "first ends", "second"]


async def test_who_sends_too_slowly_lets_the_next_one_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(my_data, "_PATIENCE", 0.2)
    client = site()

    async def never() -> AsyncIterator[bytes]:
        yield b"ri"
        await asyncio.Event().wait()

    slow, next_one = await asyncio.gather(
        client.post("/api/me/import", content=never()), client.post("/api/me/import", content=file_of(100))
    )
    assert (slow.status_code, slow.json()["code"]) == (408, "too_slow")
    assert next_one.json() == {"imported": 1, "skipped": 0}


async def test_markdown_is_made_beside_the_event_loop(
    site: Site, database: Database, ann: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, threads = site(), list[int]()
    await client.post("/api/me/import", content=file_of(100))

    def made(*_: object) -> str:
        threads.append(threading.get_ident())
        return "rice"

    monkeypatch.setattr(my_data, "to_markdown", made)
    (thread,) = await Threads(database).ids(ann.id)
    assert (await client.get(f"/api/me/conversations/{thread}/export")).text == "rice"
    assert len(threads) == 1
    assert threads != [threading.get_ident()]
