"""Storms of cancels against a running server: its page and its APIs, in all phases of a reply, by chance."""

from __future__ import annotations

import json
import random
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil

from tests.site import Program
from tests.tab import Tab, Visitor, new_id, question

AT_ONCE: Final = 8
# What is no work: the timer that Chainlit starts for each page that has gone, in case it never comes back.
_NO_WORK: Final = "disconnect.<locals>.clear_on_timeout"
# Longest time until a cancel, in seconds.
_LONGEST: Final = 0.8
_TEXTS: Final = ("!words 60", "!think 30", "Tell me. " * 40)
_PATHS: Final = ("/v1/chat/completions", "/api/chat")


@dataclass(frozen=True, slots=True)
class Rest:
    """A server at rest.

    Attributes:
        tasks: of its process, by what they run.
        memory: resident, in bytes.
    """

    tasks: Counter[str]
    memory: int


class Storm:
    """Begins replies and breaks each off after a random time.

    Args:
        site: the server; AWAY_SECONDS should be 0.
        ollama: the fake behind it.
        model: which it has.
    """

    def __init__(self, site: Program, ollama: Program, model: str = "gemma2:2b") -> None:
        self._site = site
        self._ollama = ollama
        self._model = model
        address = urlsplit(site.url)
        self._address = address.hostname or "", address.port or 80

    def blow(self, number: int, seed: int) -> Counter[str]:
        """So many cancels, always the same with one seed; how many of each kind."""
        with ThreadPoolExecutor(AT_ONCE) as workers:
            return Counter(workers.map(self._one, range(seed * 1_000_000, seed * 1_000_000 + number)))

    def seconds_to_idle(self, patience: float = 30.0) -> float:
        """How long the engine and the queues in front of it have something to do yet."""
        began = time.monotonic()
        while time.monotonic() - began < patience:
            state = self._ollama.get("/_fake/state")
            engines = self._site.get("/debug/tasks")["engines"].values()
            if not state["busy"] + state["waiting"] + sum(e["serving"] + e["waiting"] for e in engines):
                return time.monotonic() - began
            time.sleep(0.05)
        raise AssertionError("it does not come to rest")

    def rest(self, usual: Counter[str] | None = None, patience: float = 60.0) -> Rest:
        """The server as soon as it has no more tasks than usual, or when patience ends: engine.io's for a socket that
        was closed ends with its next ping, after up to 25 s."""
        deadline = time.monotonic() + patience
        while True:
            tasks = Counter(self._site.get("/debug/tasks")["tasks"])
            tasks.pop(_NO_WORK, None)
            if usual is None or not tasks - usual or time.monotonic() > deadline:
                return Rest(tasks, psutil.Process(self._site.process.pid).memory_info().rss)
            time.sleep(0.2)

    def _one(self, seed: int) -> str:
        chance = random.Random(seed)
        kind = chance.choice(("stream", "whole", "stop", "edit", "leave"))
        if chance.random() < 0.05:
            with suppress(httpx.HTTPError):
                self._ollama.post("/api/chat", {"model": self._model, "messages": [], "keep_alive": 0})
        text, seconds = chance.choice(_TEXTS), chance.uniform(0, _LONGEST)
        if kind in ("stream", "whole"):
            self._program(chance.choice(_PATHS), text, seconds, stream=kind == "stream")
        else:
            self._page(kind, text, seconds, chance.uniform(0, _LONGEST))
        return kind

    def _program(self, path: str, text: str, seconds: float, *, stream: bool) -> None:
        """A program that asks, and is gone after a while."""
        said = {"message": text} if path == "/api/chat" else {"messages": [{"role": "user", "content": text}]}
        body = {"model": self._model, "stream": stream} | said
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: storm\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        deadline = time.monotonic() + seconds
        with socket.create_connection(self._address) as connection:
            connection.sendall(f"{head}\r\n\r\n".encode() + data)
            while (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                with suppress(TimeoutError):
                    if not connection.recv(1 << 16):
                        return

    def _page(self, kind: str, text: str, seconds: float, later: float) -> None:
        """A visitor who presses Stop, edits the message and then presses Stop, or closes the page."""
        with Visitor(self._site.url) as visitor, Tab(visitor) as tab:
            step_id = new_id()
            asked: dict[str, Any] = question(text, step_id)
            tab.send("client_message", asked)
            tab.listen(seconds)
            if kind == "leave":
                tab.leave()
                self._come_back(visitor, tab)
                return
            if kind == "edit":
                tab.send("edit_message", question(f"{text} ", step_id))
                tab.listen(later)
            tab.send("stop")
            tab.listen(0.05)
            tab.leave(for_good=True)

    def _come_back(self, visitor: Visitor, tab: Tab) -> None:
        """The page once more, and then for good: else its session would be kept for an hour."""
        with Tab(visitor, session_id=tab.session_id) as back:
            back.listen(0.05)
            back.leave(for_good=True)
