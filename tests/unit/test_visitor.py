"""Who a browser is without a login: the cookie, what it leads to, and the key in the data folder."""

from __future__ import annotations

import stat
from hashlib import sha256
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from app.page.visitor import COOKIE, VisitorCookie, cookie_of, visitor_from_headers, visitor_of
from app.secret_key import load_secret

VALUE = "A" * 43


async def itself(identifier: str) -> str:
    """Every browser shows its own history."""
    return identifier


async def who(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the visitor that it sees and the cookies that it was sent."""
    request = Request(scope, receive)
    user = await visitor_from_headers(itself)(request.headers)
    answer = {"visitor": user.identifier if user else None, "cookies": request.cookies}
    await JSONResponse(answer)(scope, receive, send)


def browser(scheme: str = "http", **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(VisitorCookie(who)), base_url=f"{scheme}://server", **options
    )


async def test_the_very_first_request_has_a_visitor_and_the_next_ones_the_same() -> None:
    async with browser() as client:
        first = await client.get("/auth/header")
        second = await client.get("/auth/header")
    assert first.json()["visitor"].startswith("anon-")
    assert second.json()["visitor"] == first.json()["visitor"]
    assert "set-cookie" in first.headers
    assert "set-cookie" not in second.headers


async def test_two_browsers_are_two_visitors() -> None:
    async with browser() as one, browser() as other:
        assert (await one.get("/")).json()["visitor"] != (await other.get("/")).json()["visitor"]


async def test_the_cookie_has_256_bits_and_no_script_or_other_site_gets_it() -> None:
    async with browser() as client:
        cookie = SimpleCookie((await client.get("/")).headers["set-cookie"])[COOKIE]
    assert len(cookie.value) == 43
    assert cookie["httponly"] is True
    assert (cookie["samesite"], cookie["path"], cookie["max-age"]) == ("Lax", "/", str(365 * 24 * 3600))
    assert cookie["secure"] == ""


async def test_over_https_the_cookie_is_secure() -> None:
    async with browser("https") as client:
        assert SimpleCookie((await client.get("/")).headers["set-cookie"])[COOKIE]["secure"] is True


async def test_a_header_that_anybody_can_send_does_not_make_it_secure() -> None:
    async with browser(headers={"x-forwarded-proto": "https"}) as client:
        assert SimpleCookie((await client.get("/")).headers["set-cookie"])[COOKIE]["secure"] == ""


@pytest.mark.parametrize(
    "path",
    ["/public/theme.json", "/assets/index.js", "/favicon", "/logo", "/ws/socket.io/", "/v1/models", "/ready", "/docs"],
)
async def test_files_sockets_and_programs_get_no_cookie(path: str) -> None:
    async with browser() as client:
        answer = await client.get(path)
    assert "set-cookie" not in answer.headers
    assert answer.json()["visitor"] is None


@pytest.mark.parametrize("path", ["/logout", "/logo/x", "/ready-made", "/healthy", "/documents", "/v10"])
async def test_a_path_that_only_begins_like_one_of_those_has_a_visitor(path: str) -> None:
    async with browser() as client:
        answer = await client.post(path)
    assert "set-cookie" in answer.headers
    assert answer.json()["visitor"].startswith("anon-")


@pytest.mark.parametrize("bad", ["", "short", "x" * 44, "é" * 43, '"' + VALUE + "x", VALUE[:-1] + "/"])
async def test_a_malformed_cookie_is_replaced_at_once(bad: str) -> None:
    async with browser(headers=[("cookie", f"other=1; {COOKIE}={bad}".encode())]) as client:
        answer = await client.get("/")
    assert "set-cookie" in answer.headers
    made = SimpleCookie(answer.headers["set-cookie"])[COOKIE].value
    assert answer.json() == {"visitor": visitor_of(made), "cookies": {"other": "1", COOKIE: made}}


async def test_odd_cookies_of_other_programs_on_the_same_host_do_no_harm() -> None:
    odd = '{"a": [1, 2]}; b=c d; =; x[y]="z; ü'
    async with browser(headers=[("cookie", odd.encode())]) as client:
        assert (await client.get("/")).json()["visitor"].startswith("anon-")
    async with browser(headers=[("cookie", f"{odd}; {COOKIE}={VALUE}".encode())]) as client:
        answer = await client.get("/")
    assert answer.json()["visitor"] == visitor_of(VALUE)
    assert "set-cookie" not in answer.headers


async def test_a_websocket_passes_untouched() -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    async def nothing(*_: Any) -> Any:
        raise AssertionError("the middleware has nothing to say here")

    scope = {"type": "websocket", "path": "/chat", "scheme": "ws", "headers": []}
    await VisitorCookie(application)(scope, nothing, nothing)
    assert seen == [scope]
    assert seen[0] is scope


def test_a_visitors_name_does_not_tell_the_cookie() -> None:
    assert visitor_of(VALUE) == "anon-" + sha256(VALUE.encode()).hexdigest()


async def test_without_a_cookie_of_ours_there_is_no_visitor() -> None:
    assert cookie_of(None) is None
    assert await visitor_from_headers(itself)({}) is None
    assert await visitor_from_headers(itself)({"cookie": "a=b"}) is None


# The key


def test_a_key_is_made_once_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    secret = load_secret(tmp_path)
    assert len(secret) >= 32
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600
    assert load_secret(tmp_path) == secret


def test_each_folder_has_a_key_of_its_own(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert load_secret(tmp_path) != load_secret(other)


@pytest.mark.parametrize("folder", ["file", "missing"])
def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError) as problem:
        load_secret(tmp_path / folder)
    assert str(tmp_path / folder) in str(problem.value)
    assert "DATA_DIR=" in str(problem.value)


@pytest.mark.parametrize("kept", [b"", b"changeme", b"\xff" * 40])
def test_a_file_without_a_good_key_is_refused(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "secret.key").write_bytes(kept)
    with pytest.raises(OSError, match="Delete it"):
        load_secret(tmp_path)


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(OSError, match=r"cannot read the key .*secret\.key"):
        load_secret(tmp_path)
