"""Readers that read nothing: their replies are written in the engine's time, and nothing of them is lost."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.api.openai import openai_routes
from app.api.programs import Defaults, Programs
from app.chat import Chat
from app.engines.catalog import Catalog
from tests.fakes.engine import ScriptedEngine
from tests.fakes.words import reply_to
from tests.site import Program, fake_ollama, quick_pings, server
from tests.tab import Tab, Visitor, new_id, question

PATIENCE = 30.0
# Each word is an event of some 200 bytes.
WORDS = 4000
LONG = f"!nodelay {WORDS}"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Program]]:
    folder = tmp_path_factory.mktemp("slow")
    with (
        fake_ollama(folder, "--speedup", "100000", "--load-seconds", "0") as ollama,
        server(folder, OLLAMA_HOST=ollama.url, NUM_CTX="8192", MAX_TOKENS="4096", STORE_SECONDS="600") as site,
    ):
        until(lambda: ollama.get("/_fake/state")["loads"] == 1)  # what is asked before its first reply
        yield ollama, site


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def at_rest(ollama: Program, site: Program, replies: int) -> bool:
    """Whether so many replies were asked for, and no slot is held."""
    if len(ollama.get("/_fake/state")["requests"]) < replies:
        return False
    engines = site.get("/debug/tasks")["engines"].values()
    return not any(engine["serving"] or engine["waiting"] for engine in engines)


def connected(url: str) -> socket.socket:
    """A connection that takes as little as the system allows."""
    address = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.connect((address.hostname, address.port))
    connection.settimeout(PATIENCE)
    return connection


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
def test_a_program_that_does_not_read_its_stream_holds_no_slot(programs: tuple[Program, Program], path: str) -> None:
    ollama, site = programs
    asked = len(ollama.get("/_fake/state")["requests"])
    said: dict[str, Any] = (
        {"message": LONG} if path == "/api/chat" else {"messages": [{"role": "user", "content": LONG}]}
    )
    data = json.dumps({"model": "gemma2:2b", "stream": True} | said).encode()
    with connected(site.url) as slow:
        slow.sendall(
            f"POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        until(lambda: at_rest(ollama, site, asked + 1))
        # Through so small a window a megabyte takes minutes.
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        came = b""
        while piece := slow.recv(1 << 16):
            came += piece
    deltas = re.findall(rb'"(?:content|delta)":"( ?\w+)"', came)
    assert b"".join(deltas).decode() == "".join(reply_to(LONG).pieces)


async def test_the_slot_is_free_while_a_stream_is_stuck_in_its_socket() -> None:
    engine = ScriptedEngine("one two three four five", "next")
    chat = Chat(Catalog([engine]))
    app = FastAPI()
    app.include_router(openai_routes(Programs(chat, Defaults(0, 1, 64), comment_seconds=5), build="0", max_batch=1))
    stuck, go_on, sent = asyncio.Event(), asyncio.Event(), bytearray()
    body = {"model": "gemma2:2b", "stream": True, "messages": [{"role": "user", "content": "count"}]}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            stuck.set()
            await go_on.wait()
            sent.extend(message.get("body", b""))

    messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST",
        "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "query_string": b"", "root_path": "",
        "scheme": "http", "headers": [(b"content-type", b"application/json")], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }  # fmt: skip
    request = asyncio.create_task(app(scope, receive, send))
    await asyncio.wait_for(stuck.wait(), 5)
    async with asyncio.timeout(5):
        while chat.serving:
            await asyncio.sleep(0)
    assert engine.closed == 1
    assert not request.done()
    go_on.set()
    await asyncio.wait_for(request, 5)
    assert "".join(re.findall(r'"content":"([^"]*)"', sent.decode())) == "one two three four five"


class SlowPage:
    """A page's socket that is read no more once it is open."""

    def __init__(self, visitor: Visitor, thread_id: str) -> None:
        self.session_id = new_id()
        self._connection = connected(visitor.url)
        key = base64.b64encode(os.urandom(16)).decode()
        self._connection.sendall(
            f"GET /ws/socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {urlsplit(visitor.url).netloc}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Cookie: {visitor.cookies}\r\n\r\n".encode()
        )
        auth = {"sessionId": self.session_id, "threadId": thread_id, "clientType": "webapp", "userEnv": "{}"}
        self._read_until(b'"sid"')
        self._send("40" + json.dumps(auth))
        self._read_until(b"40{")
        self.tell("connection_successful")

    def tell(self, event: str, *arguments: Any) -> None:
        self._send("42" + json.dumps([event, *arguments]))

    def close(self) -> None:
        self._connection.close()

    def _send(self, text: str) -> None:
        data = text.encode()
        size = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
        self._connection.sendall(b"\x81" + size + bytes(4) + data)  # masked with zeros

    def _read_until(self, mark: bytes) -> None:
        came = b""
        while mark not in came:
            piece = self._connection.recv(4096)
            assert piece
            came += piece


def test_a_page_that_does_not_read_holds_no_slot_and_has_all_when_it_comes_back(
    programs: tuple[Program, Program],
) -> None:
    ollama, site = programs
    asked = len(ollama.get("/_fake/state")["requests"])
    with Visitor(site.url) as visitor:
        with Tab(visitor) as tab:
            tab.ask("!echo first")
            thread_id = visitor.call("POST", "/project/threads", {"pagination": {"first": 9}, "filter": {}}).json()[
                "data"
            ][0]["id"]
        page = SlowPage(visitor, thread_id)
        for number in range(1, 9):
            page.tell("client_message", question(LONG, new_id()))
            until(lambda number=number: at_rest(ollama, site, asked + 1 + number))  # type: ignore[misc]
        page.close()

        def replies() -> list[str]:
            steps = visitor.thread(thread_id)["steps"]
            return [step["output"] for step in steps if step["type"] == "assistant_message"]

        until(lambda: len(replies()) == 9)
        assert [len(reply.split()) for reply in replies()] == [1] + [WORDS] * 8
        with Tab(visitor, thread_id=thread_id) as back:
            shown = back.wait_for("resume_thread")[0]["steps"]
        assert sum(len(step["output"].split()) == WORDS for step in shown) == 8


def test_a_page_that_gives_no_sign_of_life_has_gone(tmp_path: Path) -> None:
    """A phone without a network: its connection is never closed."""
    pings = quick_pings(tmp_path, 0.5, 0.5)
    with (
        fake_ollama(tmp_path, "--load-seconds", "0") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, AWAY_SECONDS="1", MAX_TOKENS="4096", **pings) as site,
        Visitor(site.url) as visitor,
        Tab(visitor) as tab,
    ):
        tab.send("client_message", question("!words 2000", new_id()))
        while not ollama.get("/_fake/state")["busy"]:
            tab.listen(0.1)
        # From here on it reads nothing, and answers nothing.
        began = time.monotonic()
        until(lambda: not ollama.get("/_fake/state")["busy"])
        assert 1 < time.monotonic() - began < 8
        assert "reader away for 1 s" in site.text()
