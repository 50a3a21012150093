"""Whether there is memory for one more reply, by the files of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.api.problems import problem_of
from app.chat import Chat
from app.engines.base import Delta
from app.engines.catalog import Catalog
from app.errors import MemoryShort
from app.history import SessionHistory, StoredMessage
from app.machine import MIB
from app.memory_guard import MemoryGuard
from app.prompting import ReplyOptions
from tests.fakes.engine import ScriptedEngine


class Container:
    """The files of a container, v1 or v2, with 1,000 MiB."""

    def __init__(self, root: Path, version: int) -> None:
        self.root = root
        self._version = version
        self._folder = root / ("sys/fs/cgroup/memory" if version == 1 else "sys/fs/cgroup")
        self._write(root / "proc/self/cgroup", "5:memory:/docker/abc\n" if version == 1 else "0::/\n")
        self.limit(1000)
        self.use(100)

    def limit(self, mib: int | None) -> None:
        if self._version == 1:
            self._write(self._folder / "memory.limit_in_bytes", str(2**63 - 4096 if mib is None else mib * MIB))
        else:
            self._write(self._folder / "memory.max", "max" if mib is None else str(mib * MIB))

    def use(self, mib: int, idle_files: int = 0) -> None:
        name = "memory.usage_in_bytes" if self._version == 1 else "memory.current"
        self._write(self._folder / name, str(mib * MIB))
        lines = f"anon 5\ninactive_file {0 if self._version == 1 else idle_files * MIB}\nactive_file 7\n"
        if self._version == 1:
            lines += f"total_inactive_file {idle_files * MIB}\n"
        self._write(self._folder / "memory.stat", lines)

    def _write(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[1, 2])
def container(tmp_path: Path, request: pytest.FixtureRequest) -> Container:
    return Container(tmp_path, request.param)


def test_memory_is_short_above_the_share_and_not_any_more_below(container: Container, clock: Clock) -> None:
    guard = MemoryGuard(0.9, container.root, clock)
    found = []
    for used in (899, 901, 950, 100):
        container.use(used)
        clock.now += 1
        found.append(guard.short())
    assert found == [False, True, True, False]


def test_pages_of_files_that_nobody_uses_are_no_memory_in_use(container: Container, clock: Clock) -> None:
    container.use(990, idle_files=200)
    assert not MemoryGuard(0.9, container.root, clock).short()
    container.use(990, idle_files=50)
    assert MemoryGuard(0.9, container.root, clock).short()


def test_it_is_looked_at_once_a_second(container: Container, clock: Clock) -> None:
    guard = MemoryGuard(0.9, container.root, clock)
    assert not guard.short()
    container.use(990)
    clock.now += 0.9
    assert not guard.short()
    clock.now += 0.2
    assert guard.short()


def test_without_a_limit_or_a_share_there_is_no_guard(container: Container, clock: Clock, tmp_path: Path) -> None:
    container.use(990)
    assert not MemoryGuard(0, container.root, clock).short()
    container.limit(None)
    assert not MemoryGuard(0.9, container.root, clock).short()
    assert not MemoryGuard(0.9, tmp_path / "nothing", clock).short()


async def test_new_replies_are_refused_and_those_that_run_go_on() -> None:
    short = False
    engine = ScriptedEngine("one two three")
    chat = Chat(Catalog([engine]), memory_short=lambda: short)

    async def text(question: str) -> str:
        nonlocal short
        turn = chat.turn(SessionHistory(question), StoredMessage("q", question), "a", ReplyOptions("gemma2:2b"))
        pieces = []
        async for event in turn.events():
            if isinstance(event, Delta):
                pieces.append(event.text)
                short = True
        return "".join(pieces)

    assert await text("first") == "one two three"
    with pytest.raises(MemoryShort) as refused:
        await text("second")
    assert "Try again" in refused.value.sentence("en")
    problem = problem_of(refused.value, "en")
    assert (problem.status, problem.code, problem.retry_after) == (503, "memory_short", 30)
    assert "Try again" not in problem.message
    with pytest.raises(MemoryShort):
        await chat.embed("gemma2:2b", ["text"])
    short = False
    assert await text("third") == "yes indeed"
