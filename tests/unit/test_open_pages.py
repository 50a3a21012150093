"""Pages that are open with a token that is good no more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from chainlit.session import ws_sessions_id
from chainlit.user import User

from app.page import open_pages
from app.page.open_pages import OpenPages
from app.page.standing import Standing
from app.page.tokens import token_for
from app.page.visitor import visitor_of
from app.storage.problems import DatabaseAway

COOKIE, OTHER = "A" * 43, "B" * 43
OWN = visitor_of(COOKIE)


class Sockets:
    """A socket.io server with a connection of each session."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.manager = SimpleNamespace(eio_sid_from_sid=lambda sid, _: sid)
        self.eio = SimpleNamespace(sockets={}, reason=SimpleNamespace(SERVER_DISCONNECT="gone"))

    def open(self, name: str) -> None:
        async def close(**_: Any) -> None:
            self.closed.append(name)

        self.eio.sockets[name] = SimpleNamespace(close=close, queue=asyncio.Queue())


class Owners:
    """Whose history browsers show."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.away = False

    async def of(self, identifier: str) -> str | None:
        if self.away:
            raise DatabaseAway("away")
        return self.known.get(identifier)


@pytest.fixture
def sockets() -> Sockets:
    return Sockets()


@pytest.fixture
def owners() -> Owners:
    return Owners()


@pytest.fixture
def ended() -> list[str]:
    return []


@pytest.fixture
def standing(owners: Owners) -> Standing:
    return Standing(owners.of, None)


@pytest.fixture
def pages(sockets: Sockets, standing: Standing, ended: list[str]) -> OpenPages:
    return OpenPages(sockets, standing, lambda session: ended.append(session.socket_id))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, sockets: Sockets) -> Any:
    """Opens a page of a browser."""
    monkeypatch.setenv("CHAINLIT_AUTH_SECRET", "a key of this test alone, 0123456789")
    monkeypatch.setattr(open_pages, "ws_sessions_id", {})

    def opened(name: str, cookie: str, identifier: str | None = None, *, connected: bool = True) -> str:
        identifier = identifier or visitor_of(cookie)
        token = token_for(User(identifier=identifier))
        session = SimpleNamespace(
            socket_id=name,
            user=User(identifier=identifier),
            environ={"HTTP_COOKIE": f"visitor={cookie}; access_token={token}"},
        )
        open_pages.ws_sessions_id[name] = session  # type: ignore[assignment]
        if connected:
            sockets.open(name)
        return token

    return opened


def test_these_are_chainlits_sessions() -> None:
    assert open_pages.ws_sessions_id is ws_sessions_id


async def test_only_pages_whose_token_has_fallen_are_closed(
    page: Any, pages: OpenPages, sockets: Sockets, owners: Owners, standing: Standing, ended: list[str]
) -> None:
    page("own", COOKIE)
    page("other", OTHER)
    page("stolen", OTHER, OWN)
    await pages.close_fallen()
    assert sockets.closed == ended == ["stolen"]
    owners.known[OWN] = "anon-owner"
    standing.forget()
    await pages.close_fallen()
    assert sockets.closed[1:] == ended[1:] == ["own", "stolen"]


async def test_a_reply_ends_also_where_the_page_is_away(page: Any, pages: OpenPages, ended: list[str]) -> None:
    page("stolen", OTHER, OWN, connected=False)
    await pages.close_fallen()
    assert ended == ["stolen"]


async def test_the_browser_that_was_given_another_token_only_connects_anew(
    page: Any, pages: OpenPages, sockets: Sockets, owners: Owners, ended: list[str]
) -> None:
    page("own", COOKIE)
    owners.known[OWN] = "anon-owner"
    await pages.close_fallen(spared=OWN)
    assert (sockets.closed, ended) == (["own"], [])


async def test_while_the_database_is_away_no_page_is_closed(
    page: Any, pages: OpenPages, sockets: Sockets, owners: Owners
) -> None:
    page("own", COOKIE)
    owners.away = True
    await pages.close_fallen()
    assert sockets.closed == []


async def test_signing_out_closes_the_pages_of_that_token(page: Any, pages: OpenPages, sockets: Sockets) -> None:
    token = page("own", COOKIE)
    page("other", OTHER)
    await pages.close_token(token)
    assert sockets.closed == ["own"]


async def test_what_another_process_has_changed_is_found_in_time(
    page: Any, pages: OpenPages, sockets: Sockets, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    page("stolen", OTHER, OWN)
    rounds = 0
    close = pages.close_fallen

    async def breaks_first(spared: str | None = None) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise RuntimeError("broken")
        await close()

    monkeypatch.setattr(pages, "close_fallen", breaks_first)
    monkeypatch.setattr(open_pages, "_PAUSE", 0)
    running = asyncio.create_task(pages.run())
    while not sockets.closed:
        await asyncio.sleep(0)
    running.cancel()
    assert "AUTH the open pages could not be looked through" in caplog.text
