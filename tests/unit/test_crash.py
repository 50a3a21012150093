"""Killed at any moment, the server has stored every reply that it had shown as complete.

The moments are random. CRASH_SEED=N makes them those of a run before, CRASH_ROUNDS=N sets how many there are.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from simple_websocket import ConnectionClosed

from tests.postgres import Postgres, wait_for
from tests.site import clean_environment, fake_ollama, free_port
from tests.tab import Tab, Visitor, new_id, question

_TABS: Final = 3
_PATIENCE: Final = 30.0
# The longest that a server lives once its pages are open, in seconds.
_LIFE: Final = 0.4


@dataclass
class Servers:
    """Servers on one port, one after another."""

    url: str
    zygote: subprocess.Popen[str]
    pid: int = 0

    def start(self) -> None:
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        print(file=self.zygote.stdin, flush=True)
        self.pid = int(self.zygote.stdout.readline())
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                assert httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == 200
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the server did not come up"
                time.sleep(0.01)

    def kill(self) -> None:
        pid, self.pid = self.pid, 0
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.002)


@contextmanager
def servers(folder: Path, **variables: str) -> Iterator[Servers]:
    port = free_port()
    settings = {
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "DATA_DIR": str(folder / "data"),
        "QWEN_MODEL": "",
        "STORE_SECONDS": "0.1",
        "LOG_LEVEL": "ERROR",
    }
    with (folder / "server.log").open("wb") as log:
        zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=folder,
            env=clean_environment(**(settings | variables)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    found = Servers(f"http://127.0.0.1:{port}", zygote)
    try:
        yield found
    finally:
        if found.pid:
            found.kill()
        zygote.kill()
        zygote.wait()


@dataclass
class Talker:
    """A visitor who asks one thing after another, in a new conversation after each crash.

    Attributes:
        complete: text of each reply that was shown as complete, by its step's id.
        asked: ids of all questions.
    """

    visitor: Visitor
    complete: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    def talk(self) -> None:
        """Until the server is gone."""
        told: list[str] = []
        try:
            tab = Tab(self.visitor)
            told = tab.told
            assert tab.accepted
            self.open.set()
            for words in range(3, 1000, 7):
                self.asked.append(new_id())
                tab.send("client_message", question(f"!words {words}", self.asked[-1]))
                tab.wait_until_answered()
        except (ConnectionClosed, OSError, TimeoutError):
            pass
        finally:
            self.open.set()
            self._look_through(told)

    def _look_through(self, told: list[str]) -> None:
        shown: dict[str, str] = {}
        for packet in told:
            if not packet.startswith("42"):
                continue
            event, *arguments = json.loads(packet[2:])
            if event == "new_message":
                shown[arguments[0]["id"]] = arguments[0]["output"]
            elif event == "element" and arguments[0]["props"]["phase"] == "finished":
                self.complete[arguments[0]["forId"]] = shown[arguments[0]["forId"]]


def life_and_death(running: Servers, talkers: list[Talker], seconds: float, end: Callable[[], None]) -> None:
    """Let them all talk, and `end` it after a while."""
    threads = [threading.Thread(target=talker.talk) for talker in talkers]
    for talker, thread in zip(talkers, threads, strict=True):
        talker.open.clear()
        thread.start()
    for talker in talkers:
        assert talker.open.wait(_PATIENCE)
    time.sleep(seconds)  # what is tested: any moment
    end()
    for thread in threads:
        thread.join(_PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(10**6))
    print(f"CRASH_SEED={seed}")
    return random.Random(seed)


def rounds(default: int) -> int:
    return int(os.environ.get("CRASH_ROUNDS") or default)


def all_there(talkers: list[Talker], replies: dict[str, str], phases: dict[str, str]) -> None:
    """What was shown as complete is stored, with the line under it."""
    for talker in talkers:
        for step_id, text in talker.complete.items():
            assert replies.get(step_id) == text
            assert phases.get(step_id) == "finished"


def test_a_killed_server_has_stored_every_reply_that_it_had_shown_as_complete(
    tmp_path: Path, chance: random.Random
) -> None:
    count = rounds(100)
    with (
        fake_ollama(tmp_path, "--speedup", "60", "--load-seconds", "0") as ollama,
        servers(tmp_path, OLLAMA_HOST=ollama.url, SLOTS="2") as running,
    ):
        running.start()
        talkers = [Talker(Visitor(running.url)) for _ in range(_TABS)]
        for _ in range(count):
            life_and_death(running, talkers, chance.uniform(0, _LIFE), running.kill)
            with sqlite3.connect(tmp_path / "data" / "chat.db") as file:
                assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert file.execute("PRAGMA foreign_key_check").fetchall() == []
                replies = dict(file.execute("SELECT id, output FROM steps").fetchall())
                elements = file.execute("SELECT step_id, content FROM elements").fetchall()
            file.close()
            all_there(talkers, replies, {step: json.loads(content)["props"]["phase"] for step, content in elements})
            running.start()
            assert httpx.get(f"{running.url}/health", trust_env=False).json()["database"]["state"] == "ok"
        complete = sum(len(talker.complete) for talker in talkers)
        asked = sum(len(talker.asked) for talker in talkers)
        assert count <= complete < asked


async def stored(postgres: Postgres, name: str) -> tuple[dict[str, str], dict[str, str]]:
    steps = await postgres.execute("SELECT id, output FROM steps", name)
    elements = await postgres.execute("SELECT step_id, content #>> '{props,phase}' AS phase FROM elements", name)
    return {row["id"]: row["output"] for row in steps}, {row["step_id"]: row["phase"] for row in elements}


@pytest.fixture
def database_name(postgres: Postgres) -> str:
    name = wait_for(postgres.new_database)
    # As it is by default; the server of the tests is quicker than that.
    wait_for(lambda: postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = on"))
    return name


def test_on_postgresql_it_is_the_same(
    tmp_path: Path, postgres: Postgres, database_name: str, chance: random.Random
) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "60", "--load-seconds", "0") as ollama,
        servers(tmp_path, OLLAMA_HOST=ollama.url, SLOTS="2", DATABASE_URL=postgres.url(database_name)) as running,
    ):
        running.start()
        talkers = [Talker(Visitor(running.url)) for _ in range(_TABS)]
        for _ in range(rounds(15)):
            life_and_death(running, talkers, chance.uniform(0, _LIFE), running.kill)
            all_there(talkers, *wait_for(lambda: stored(postgres, database_name)))
            running.start()
        assert any(talker.complete for talker in talkers)


def test_a_killed_postgresql_gets_what_it_has_missed(
    tmp_path: Path, postgres: Postgres, database_name: str, chance: random.Random
) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "60", "--load-seconds", "0") as ollama,
        servers(tmp_path, OLLAMA_HOST=ollama.url, SLOTS="2", DATABASE_URL=postgres.url(database_name)) as running,
    ):
        running.start()
        talkers = [Talker(Visitor(running.url)) for _ in range(_TABS)]

        def end() -> None:
            postgres.crash()
            time.sleep(chance.uniform(0, _LIFE))  # meanwhile the chat goes on
            postgres.start()
            health = database_of(running)
            deadline = time.monotonic() + _PATIENCE
            while health["waiting"] or health["state"] != "ok":
                assert time.monotonic() < deadline, health
                time.sleep(0.02)
                health = database_of(running)
            assert health["lost"] == 0
            running.kill()

        for _ in range(rounds(3)):
            life_and_death(running, talkers, chance.uniform(0, _LIFE), end)
            replies, phases = wait_for(lambda: stored(postgres, database_name))
            all_there(talkers, replies, phases)
            running.start()
        assert sum(len(talker.complete) for talker in talkers) > 0


def database_of(running: Servers) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{running.url}/health", trust_env=False).json()["database"]
    return answer
