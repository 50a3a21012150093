"""A browser without a page: its cookies, and Chainlit's socket as the page's script speaks it, word by word.

Both do what a stranger with a terminal can do, so nothing here is checked before it is sent.
"""

from __future__ import annotations

import json
import ssl
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Final, Self

import httpx
from simple_websocket import Client, ConnectionClosed, ConnectionError

PATIENCE: Final = 20.0
_SOCKET: Final = "/ws/socket.io/"

# Packets of engine.io (the first digit) with those of socket.io in them (the second).
_PING, _PONG = "2", "3"
_CONNECT, _EVENT, _REFUSED = "40", "42", "44"


def new_id() -> str:
    """An id as the page makes them."""
    return str(uuid.uuid4())


def question(text: str, step_id: str, **more: Any) -> dict[str, Any]:
    """What the page sends when a visitor says something."""
    message = {
        "id": step_id,
        "threadId": "",
        "name": "user",
        "type": "user_message",
        "output": text,
        "createdAt": datetime.now(UTC).isoformat(),
    }
    return {"message": message | more, "fileReferences": []}


PASSWORD: Final = "green horse staple 7"


class Visitor:
    """A browser with a cookie of its own, or with none.

    Args:
        url: of the server.
        known: whether it has been on the page, as every browser has that is used by hand; where people sign in, it has
            an account of a name that nobody else has.
    """

    def __init__(self, url: str, *, known: bool = True) -> None:
        self.url = url
        # No certificates: it is plain http, and to load them takes longer than a test.
        self.http = httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False, verify=False)
        if known:
            self.http.get("/").raise_for_status()
            if self.http.get("/auth/config").json()["headerAuth"]:
                self.http.post("/auth/header").raise_for_status()
            else:
                self.sign_up(f"visitor-{new_id()}")

    def sign_up(self, name: str, password: str = PASSWORD) -> None:
        """Make an account, and be signed in."""
        account = {"name": name, "password": password}
        self.http.post("/api/auth/register", json=account).raise_for_status()

    def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        """Sign in as the page's form does."""
        return self.http.post("/login", data={"username": name, "password": password})

    def me(self) -> dict[str, Any]:
        """What the server says of who this is."""
        found: dict[str, Any] = self.http.get("/api/me").raise_for_status().json()
        return found

    @property
    def cookies(self) -> str:
        """The Cookie header."""
        return "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """A request as it stands: a path with `..` is sent with it."""
        return self.http.request(method, "/", json=body, extensions={"target": path.encode("ascii")}, **more)

    def thread(self, thread_id: str) -> dict[str, Any]:
        """A whole conversation of this visitor's."""
        answer = self.http.get(f"/project/thread/{thread_id}")
        answer.raise_for_status()
        thread: dict[str, Any] = answer.json()
        return thread

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tab:
    """One socket of a visitor's, over a websocket.

    Attributes:
        accepted: whether the server took it.
        told: all that the server has sent, as text.
    """

    def __init__(
        self,
        visitor: Visitor,
        *,
        session_id: Any = None,
        thread_id: Any = "",
        origin: str | None = None,
        query: str = "",
    ) -> None:
        self.session_id = session_id or new_id()
        self.told: list[str] = []
        self.accepted = False
        headers = {"Cookie": visitor.cookies} if visitor.cookies else {}
        if origin is not None:
            headers["Origin"] = origin
        url = visitor.url.replace("http", "ws", 1)
        self._socket: Any = None
        try:
            self._socket = Client(
                f"{url}{_SOCKET}?EIO=4&transport=websocket{query}",
                headers=headers,
                ssl_context=ssl._create_unverified_context() if url.startswith("wss") else None,
            )
        except (ConnectionError, ConnectionClosed):
            return
        auth = {"sessionId": self.session_id, "threadId": thread_id, "clientType": "webapp", "userEnv": "{}"}
        try:
            # Not after engine.io's first packet: where that came together with the handshake's end, this client shows
            # it with the next one.
            self._socket.send(_CONNECT + json.dumps(auth))
            self.accepted = self._wait_for(_CONNECT, _REFUSED).startswith(_CONNECT)
        except ConnectionClosed:
            return
        if self.accepted:
            self.send("connection_successful")

    @property
    def connected(self) -> bool:
        """Whether the connection is open."""
        return self._socket is not None and bool(self._socket.connected)

    def send(self, event: str, *arguments: Any) -> None:
        """An event, whether there is one of that name or not."""
        self._socket.send(_EVENT + json.dumps([event, *arguments]))

    def ask(self, text: str, step_id: str | None = None, **more: Any) -> str:
        """Say something and wait for the whole answer; returns the id of the question."""
        step_id = step_id or new_id()
        self.send("client_message", question(text, step_id, **more))
        self.wait_until_answered()
        return step_id

    def wait_until_answered(self) -> None:
        """Wait until the work that the last event began has ended."""
        self.wait_for("task_start")
        self.wait_for("task_end")

    def wait_for(self, event: str) -> list[Any]:
        """The next event of that name; what comes before it is kept in `told`."""
        while True:
            packet = self._wait_for(_EVENT)
            name, *arguments = json.loads(packet.removeprefix(_EVENT))
            if name == event:
                return list(arguments)

    def listen(self, seconds: float) -> str:
        """All that the server has told until then."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._receive(left)
        except (TimeoutError, ConnectionClosed):
            pass
        return "\n".join(self.told)

    def wait_until_closed(self) -> None:
        """Wait until the server has closed the connection."""
        deadline = time.monotonic() + PATIENCE
        try:
            while True:
                self._receive(deadline - time.monotonic())
        except ConnectionClosed:
            return

    def leave(self, *, for_good: bool = False) -> None:
        """Close the page; for good: as the page does for a new chat, so that the server forgets the session."""
        if self.connected:
            if for_good:
                self.send("clear_session")
                self.listen(0.1)
            self._socket.close()

    def _wait_for(self, *kinds: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while True:
            packet = self._receive(deadline - time.monotonic())
            if packet.startswith(kinds):
                return packet

    def _receive(self, seconds: float) -> str:
        packet = self._socket.receive(timeout=max(seconds, 0.001))
        if packet is None:
            raise TimeoutError("the server said nothing")
        if packet == _PING:
            self._socket.send(_PONG)
        self.told.append(str(packet))
        return str(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
