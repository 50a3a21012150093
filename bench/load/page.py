"""A visitor with a browser: our page's cookie, its socket, and what it says and hears there."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from bench.load.attempt import REFUSALS, Attempt
from bench.load.plan import LoadError, Plan

# Packets of engine.io (the first digit) with those of socket.io in them (the second).
_PING, _PONG = "2", "3"
_CONNECT, _EVENT, _REFUSED = "40", "42", "44"
_PATIENCE: Final = 30.0  # seconds for a page to open
_STATUS: Final = "ReplyStatus"
_LARGEST: Final = 64 * 2**20  # a long conversation that is opened comes as one event


async def check(plan: Plan, http: httpx.AsyncClient) -> None:
    """Look whether there is our page, and whether it lets in.

    Raises:
        LoadError: it is not there, or wants a login.
    """
    answer = await http.get(f"{plan.url}/auth/config")
    try:
        anybody = answer.raise_for_status().json()["headerAuth"]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as problem:
        raise LoadError(
            f"{plan.url} answers, but has no page of ours; for a server with /v1 alone: --over v1"
        ) from problem
    if not anybody and plan.login is None:
        raise LoadError(
            f"{plan.url} wants a login: --login NAME:PASSWORD (or LOAD_LOGIN), or --over v1 with --token KEY"
        )


class Page:
    """An open page.

    Args:
        plan: tells what it needs.
        http: for cookies; its own are not used.
        model: who answers; empty: the server's default.
    """

    def __init__(self, plan: Plan, http: httpx.AsyncClient, model: str) -> None:
        self._plan = plan
        self._http = http
        self._model = model
        self._cookies = ""
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._attempt: Attempt | None = None
        self._over = asyncio.Event()
        self._begun = False
        self._notice = ""

    async def open(self) -> None:
        """Open it as a browser that has never been there.

        Raises:
            LoadError: the server does not let it.
        """
        self._cookies = self._cookies or await self._sign_in()
        url = self._plan.url.replace("http", "ws", 1)
        try:
            async with asyncio.timeout(_PATIENCE):
                self._socket = await connect(
                    f"{url}/ws/socket.io/?EIO=4&transport=websocket",
                    additional_headers={"Cookie": self._cookies},
                    compression=None,
                    ping_interval=None,
                    proxy=None,
                    max_size=_LARGEST,
                    open_timeout=_PATIENCE,
                )
                await self._enter(self._socket)
        except (OSError, WebSocketException, TimeoutError) as problem:
            raise LoadError(
                f"the page's socket was not opened: {type(problem).__name__} {problem}".strip()
            ) from problem
        self._reading = asyncio.create_task(self._read(self._socket))
        await self._send("connection_successful")
        if self._model:
            await self._send("chat_settings_change", {"model": self._model})

    async def begin_anew(self) -> None:
        """New chat: the page forgets its session and connects with another."""
        if self._socket is not None:
            await self._send("clear_session")
        await self.close()
        await self.open()

    async def ask(self, attempt: Attempt) -> None:
        """Ask, and wait for the reply's end."""
        if self._reading is None or self._reading.done():
            try:
                await self.open()  # as the page does when its connection broke
            except LoadError as problem:
                attempt.ends("failed", str(problem))
                return
        self._attempt, self._begun, self._notice = attempt, False, ""
        self._over.clear()
        await self._send("client_message", _question(attempt.said))
        await self._over.wait()
        self._attempt = None
        attempt.ends("failed", self._notice or "the page was not told how the reply ended")
        if attempt.outcome != "replied" and not attempt.problem:
            attempt.problem = self._notice  # below a reply that failed in its middle it is told last

    async def close(self) -> None:
        """Close it."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def _sign_in(self) -> str:
        """The Cookie header."""
        cookies: dict[str, str] = {}
        try:
            cookies |= (await self._http.get(f"{self._plan.url}/")).raise_for_status().cookies
            headers = {"Cookie": _header(cookies)}
            if self._plan.login is None:
                answer = await self._http.post(f"{self._plan.url}/auth/header", headers=headers)
            else:
                form = dict(zip(("username", "password"), self._plan.login, strict=True))
                answer = await self._http.post(f"{self._plan.url}/login", data=form, headers=headers)
            cookies |= answer.raise_for_status().cookies
        except httpx.HTTPStatusError as problem:
            raise LoadError(f"{problem.request.url.path} answers {problem.response.status_code}") from problem
        except httpx.HTTPError as problem:
            raise LoadError(f"the page was not opened: {type(problem).__name__} {problem}".strip()) from problem
        return _header(cookies)

    async def _enter(self, socket: ClientConnection) -> None:
        auth = {"sessionId": str(uuid.uuid4()), "threadId": "", "clientType": "webapp", "userEnv": "{}"}
        await socket.send(_CONNECT + json.dumps(auth))
        while not (packet := str(await socket.recv())).startswith(_CONNECT):
            if packet.startswith(_REFUSED):
                raise LoadError("the page's socket was refused")

    async def _send(self, event: str, *arguments: Any) -> None:
        try:
            if self._socket is not None:
                await self._socket.send(_EVENT + json.dumps([event, *arguments]))
        except (OSError, WebSocketException):
            self._lost()

    async def _read(self, socket: ClientConnection) -> None:
        """Hear what the server says until the connection ends; without the answers to its pings it would end it."""
        try:
            async for packet in socket:
                if packet == _PING:
                    await socket.send(_PONG)
                elif self._attempt is not None and str(packet).startswith(_EVENT):
                    name, *arguments = json.loads(str(packet).removeprefix(_EVENT))
                    self._hear(self._attempt, name, arguments[0] if arguments else {})
        except (OSError, WebSocketException):
            pass  # said to who waits for a reply, like an end that is none
        self._lost()

    def _lost(self) -> None:
        self._notice = "the page's connection was closed"
        self._over.set()

    def _hear(self, attempt: Attempt, event: str, told: Mapping[str, Any]) -> None:
        match event:
            case "task_start":
                self._begun = True
            case "task_end" if self._begun:
                self._over.set()
            case "stream_start":
                attempt.gets(told["output"])
            case "stream_token":
                attempt.gets(told["token"])
            case "new_message" if told.get("isError"):
                self._notice = told["output"]
            case "element" if told.get("name") == _STATUS:
                self._show(attempt, told["props"])

    def _show(self, attempt: Attempt, status: Mapping[str, Any]) -> None:
        """The line under the reply."""
        match status["phase"]:
            case "waiting":
                attempt.waits(int(status.get("position", 0)))
            case "finished":
                attempt.tokens = status["metrics"]["reply_tokens"]
                attempt.ends("replied")
            case "failed":
                attempt.ends("refused" if status.get("code") in REFUSALS else "failed", self._notice)
            case "stopped":
                attempt.ends("failed", "the reply was stopped")
            case _:
                attempt.is_served()


def _header(cookies: Mapping[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


def _question(text: str) -> dict[str, Any]:
    """What the page sends when a visitor says something."""
    message = {
        "id": str(uuid.uuid4()),
        "threadId": "",
        "name": "user",
        "type": "user_message",
        "output": text,
        "createdAt": datetime.now(UTC).isoformat(),
    }
    return {"message": message, "fileReferences": []}
