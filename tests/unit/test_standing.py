"""Which tokens are still good, and what becomes of a request with one that is not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import httpx
import jwt
import pytest
from chainlit.user import User
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from app.api.refused import asked_language
from app.page.cross_site import CrossSite
from app.page.standing import Recent, Standing
from app.page.token_check import TokenCheck
from app.page.tokens import token_for, user_for
from app.page.visitor import visitor_of
from app.storage.accounts import Account, Rights
from app.storage.problems import DatabaseAway

SECRET = "a key of this test alone, 0123456789"
COOKIE = "A" * 43
OTHER = "B" * 43
OWN = visitor_of(COOKIE)
ANN = Account("id-1", "ann", "Ann", "hash", "user", False, 3, "2026-01-01")


class Known:
    """A database of names, which may be away."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.asked = 0
        self.away = False

    async def read(self, name: str) -> Any:
        self.asked += 1
        if self.away:
            raise DatabaseAway("away")
        return self.values.get(name)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINLIT_AUTH_SECRET", SECRET)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the time forward."""
    start, passed = time.monotonic(), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: start + passed)

    def forward(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    return forward


# What is read


async def test_what_was_read_is_believed_for_a_few_seconds(clock: Callable[[float], None]) -> None:
    database = Known(ann=1)
    recent = Recent(database.read)
    assert [await recent.get("ann") for _ in range(3)] == [1, 1, 1]
    assert database.asked == 1
    database.values["ann"] = 2
    clock(3.1)
    assert await recent.get("ann") == 2


async def test_what_has_changed_here_is_read_anew_at_once() -> None:
    database = Known(ann=1)
    recent = Recent(database.read)
    await recent.get("ann")
    database.values["ann"] = 2
    recent.forget()
    assert await recent.get("ann") == 2


async def test_what_was_being_read_while_it_changed_is_not_believed() -> None:
    go, values = asyncio.Event(), [1]

    async def slow(name: str) -> int:
        value = values[0]
        await go.wait()
        return value

    recent = Recent(slow)
    reading = asyncio.create_task(recent.get("ann"))
    await asyncio.sleep(0)
    values[0] = 2
    recent.forget()
    go.set()
    await reading
    assert await recent.get("ann") == 2


async def test_while_the_database_is_away_the_last_that_was_known_counts(clock: Callable[[float], None]) -> None:
    database = Known(ann=1)
    recent = Recent(database.read)
    await recent.get("ann")
    database.away = True
    for _ in range(3):
        clock(10)
        assert await recent.get("ann") == 1
    asked = database.asked
    with pytest.raises(DatabaseAway):
        await recent.get("bob")
    assert database.asked == asked  # it was asked just now
    database.away = False
    clock(3.1)
    assert await recent.get("bob") is None


# Whose token


def account(**changes: Any) -> User:
    user = user_for(ANN)
    return User(identifier=user.identifier, display_name=user.display_name, metadata=user.metadata | changes)


@pytest.mark.parametrize(
    ("rights", "stands"),
    [
        (Rights("id-1", 3, False), True),
        (Rights("id-1", 3, True), False),
        (Rights("id-1", 4, False), False),
        (Rights("id-2", 3, False), False),
        (None, False),
    ],
)
async def test_an_accounts_token_stands_as_long_as_its_rights_do(rights: Rights | None, stands: bool) -> None:
    standing = Standing(Known().read, Known(ann=rights).read)
    assert await standing.stands(account(), OWN) is stands
    assert await standing.stands(account(), None) is stands


@pytest.mark.parametrize("said", [{"version": None}, {"version": "3"}, {"user": None}, {"user": "id-2"}])
async def test_a_token_that_says_less_than_an_accounts_does_not_stand(said: dict[str, Any]) -> None:
    standing = Standing(Known().read, Known(ann=ANN.rights).read)
    assert not await standing.stands(account(**said), OWN)


async def test_without_a_login_a_token_stands_with_its_cookie_alone() -> None:
    devices = Known()
    standing = Standing(devices.read, None)
    assert await standing.stands(User(identifier=OWN), OWN)
    assert not await standing.stands(User(identifier=OWN), None)
    assert not await standing.stands(User(identifier=OWN), visitor_of(OTHER))
    devices.values[OWN] = "anon-owner"
    standing.forget()
    assert not await standing.stands(User(identifier=OWN), OWN)
    assert await standing.stands(User(identifier="anon-owner"), OWN)
    assert await standing.leads_to(OWN) == "anon-owner"


async def test_while_the_database_is_away_whoever_is_not_known_is_let_through() -> None:
    devices, accounts = Known(), Known()
    devices.away = accounts.away = True
    assert await Standing(devices.read, accounts.read).stands(account(), OWN)
    assert await Standing(devices.read, None).stands(User(identifier=OWN), OWN)
    assert not await Standing(devices.read, None).stands(User(identifier=OWN), None)
    assert await Standing(devices.read, None).leads_to(OWN) == OWN


# Requests


async def seen(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with what it sees of who asks."""
    request = Request(scope, receive)
    body = {
        "cookies": request.cookies,
        "bearer": request.headers.get("authorization"),
        "identifier": request.state.identifier,
        "device": request.state.device,
        "body": len(await request.body()),
    }
    answer = JSONResponse(body)
    if scope["path"] == "/login":
        answer.set_cookie("access_token", "new")
    await answer(scope, receive, send)


class Site:
    """A site with accounts, or without."""

    def __init__(self, *, login: bool, scheme: str = "http") -> None:
        self.devices, self.accounts = Known(), Known(ann=ANN.rights)
        standing = Standing(self.devices.read, self.accounts.read if login else None)
        self.transport = httpx.ASGITransport(TokenCheck(seen, standing))
        self.scheme = scheme

    async def ask(self, path: str = "/user", cookies: str = "", **headers: str) -> tuple[dict[str, Any], SimpleCookie]:
        async with httpx.AsyncClient(transport=self.transport, base_url=f"{self.scheme}://server") as client:
            sent = headers | {"cookie": cookies} if cookies else headers
            answer = await client.get(path, headers={name: value.encode("latin-1") for name, value in sent.items()})
        made = SimpleCookie()
        for line in answer.headers.get_list("set-cookie"):
            made.load(line)
        return answer.json(), made


async def test_a_good_token_passes_with_the_name_of_its_account() -> None:
    token = token_for(user_for(ANN))
    body, made = await Site(login=True).ask(cookies=f"a=b; access_token={token}; visitor={COOKIE}")
    assert body["cookies"] == {"a": "b", "access_token": token, "visitor": COOKIE}
    assert (body["identifier"], body["device"]) == ("ann", OWN)
    assert not made


async def test_a_token_that_does_not_stand_is_taken_out_and_its_cookies_are_deleted() -> None:
    site = Site(login=True)
    site.accounts.values["ann"] = None
    token = token_for(user_for(ANN))
    parts = f"access_token_0={token[:50]}; access_token_1={token[50:]}"
    for cookies, names in ((f"access_token={token}", ["access_token"]), (parts, ["access_token_0", "access_token_1"])):
        body, made = await site.ask(cookies=f"a=b; {cookies}; visitor={COOKIE}")
        assert body["cookies"] == {"a": "b", "visitor": COOKIE}
        assert body["identifier"] is None
        assert {name: (cookie.value, cookie["max-age"]) for name, cookie in made.items()} == dict.fromkeys(
            names, ("", "0")
        )


@pytest.mark.parametrize("expires", [-1, 60])
@pytest.mark.parametrize("key", [SECRET, "x" * 32, ""])
@pytest.mark.parametrize("where", ["cookie", "bearer"])
async def test_only_a_token_that_we_have_signed_and_that_has_not_ended_counts(
    where: str, key: str, expires: int
) -> None:
    said = user_for(ANN).to_dict() | {"exp": time.time() + expires}
    token = jwt.encode(said, key, algorithm="HS256" if key else "none")
    headers = {"cookies": f"access_token={token}"} if where == "cookie" else {"authorization": f"Bearer {token}"}
    body, _ = await Site(login=True).ask(**headers)
    assert (body["identifier"] == "ann") is (key == SECRET and expires > 0)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "Bearer", "\u00e9"])
async def test_what_is_no_token_is_nobodys(token: str) -> None:
    body, made = await Site(login=True).ask(cookies=f"access_token={token}")
    assert body["identifier"] is None
    assert made["access_token"]["max-age"] == "0"


@pytest.mark.parametrize("said", [{}, {"identifier": "ann"}, {"identifier": 1, "exp": 9e9}, {"exp": 9e9}])
async def test_a_token_of_another_form_is_nobodys(said: dict[str, Any]) -> None:
    token = jwt.encode(said, SECRET, algorithm="HS256")
    body, _ = await Site(login=True).ask(cookies=f"access_token={token}")
    assert body["identifier"] is None


async def test_a_new_cookie_is_not_deleted_in_place_of_the_old() -> None:
    _, made = await Site(login=True).ask("/login", cookies="access_token=old; access_token_1=older")
    assert made["access_token"].value == "new"
    assert made["access_token_1"]["max-age"] == "0"


async def test_a_program_sends_its_token_in_a_header() -> None:
    site = Site(login=True)
    line = f"Bearer {token_for(user_for(ANN))}"
    body, _ = await site.ask(authorization=line)
    assert (body["identifier"], body["bearer"]) == ("ann", line)
    site = Site(login=True)
    site.accounts.values["ann"] = None
    body, _ = await site.ask(authorization=line)
    assert (body["identifier"], body["bearer"]) == (None, None)


async def test_a_key_that_is_no_token_of_ours_is_left_for_others() -> None:
    body, _ = await Site(login=True).ask(authorization="Bearer sk-123")
    assert (body["identifier"], body["bearer"]) == (None, "Bearer sk-123")


async def test_without_a_login_the_cookie_tells_who_asks_and_a_token_alone_does_not() -> None:
    site = Site(login=False)
    token = token_for(User(identifier=OWN))
    body, made = await site.ask(cookies=f"access_token={token}; visitor={COOKIE}")
    assert (body["identifier"], body["device"]) == (OWN, OWN)
    assert body["cookies"]["access_token"] == token
    assert not made
    for cookies in (f"access_token={token}", f"access_token={token}; visitor={OTHER}"):
        body, made = await site.ask(cookies=cookies)
        assert body["identifier"] != OWN
        assert "access_token" not in body["cookies"]
        assert made["access_token"]["max-age"] == "0"
    body, _ = await site.ask(authorization=f"Bearer {token}")
    assert (body["identifier"], body["bearer"]) == (None, None)


async def test_a_browser_that_was_given_a_link_asks_as_its_owner() -> None:
    site = Site(login=False)
    site.devices.values[OWN] = "anon-owner"
    body, _ = await site.ask(cookies=f"visitor={COOKIE}")
    assert (body["identifier"], body["device"]) == ("anon-owner", OWN)


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
async def test_cookies_are_secure_where_the_request_came_by_https(scheme: str, secure: bool) -> None:
    _, made = await Site(login=True, scheme=scheme).ask("/login", cookies="access_token_0=x")
    assert {name: bool(cookie["secure"]) for name, cookie in made.items()} == {
        "access_token": secure,
        "access_token_0": secure,
    }


async def test_files_that_everybody_gets_are_not_asked_about() -> None:
    site = Site(login=True)
    with pytest.raises(AttributeError):
        await site.ask("/public/custom.js", cookies=f"access_token={token_for(user_for(ANN))}")
    assert site.accounts.asked == 0


async def test_signing_out_is_asked_about() -> None:
    body, _ = await Site(login=True).ask("/logout", cookies=f"access_token={token_for(user_for(ANN))}")
    assert body["identifier"] == "ann"


# Other sites


async def called(app: Any, method: str, path: str, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
        return await client.request(method, path, **more)


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    await JSONResponse(len(await request.body()))(scope, receive, send)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/api/me/join", "/login", "/logout", "/project/thread", "/ws/socket.io/?EIO=4"])
@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("same-site", 403), ("", 403), ("same-origin", 200), ("none", 200), (None, 200)],
)
async def test_no_other_sites_page_changes_anything(method: str, path: str, site: str | None, status: int) -> None:
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    assert (await called(CrossSite(ok), method, path, headers=headers)).status_code == status


async def test_other_sites_may_link_here_and_a_provider_may_send_back() -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    for method, path in (("GET", "/"), ("GET", "/thread/x"), ("POST", "/auth/oauth/azure-ad-hybrid/callback")):
        assert (await called(CrossSite(ok), method, path, headers=headers)).status_code == 200
    assert (await called(CrossSite(ok), "GET", "/ws/socket.io/?EIO=4", headers=headers)).status_code == 403


@pytest.mark.parametrize(("site", "opened"), [(b"cross-site", False), (b"same-origin", True)])
async def test_no_other_sites_page_opens_a_socket(site: bytes, opened: bool) -> None:
    sent: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/ws/socket.io/", "headers": [(b"sec-fetch-site", site)]}
    await CrossSite(application)(scope, None, send)  # type: ignore[arg-type]
    assert sent == ["websocket.accept" if opened else "websocket.close"]


# Languages


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("ru", "ru"),
        ("ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        ("en-US,en;q=0.9,ru;q=0.8", "en"),
        ("ru;q=0.3, en;q=0.7", "en"),
        ("de, ru;q=0.5", "ru"),
        ("de", "en"),
        ("ru;q=0", "en"),
        ("ru;q=x", "en"),
        (json.dumps(["ru"]), "en"),
    ],
)
def test_an_answer_is_in_the_language_that_is_asked_for_most(header: str | None, language: str) -> None:
    assert asked_language(header) == language
