"""The line of writes: made one after another, kept in memory while the database takes none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final, Literal

from app.storage.database import Database
from app.storage.problems import DatabaseAway, DatabaseRefused
from app.storage.records import ThreadDeleted
from app.storage.texts import now
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from app.storage.writes import SaveStep, SaveThread, Write, Writer, in_one, makes_thread, size_of
from app.transcript import QUESTION_TYPE

log = logging.getLogger(__name__)

# What became of a write: it is stored; it is in memory until the database takes it; it never will be; it is something
# said in a conversation that is deleted, so that it never will be either.
Fate = Literal["kept", "waiting", "lost", "deleted"]
# Between two tries to reach a database that is away, in seconds: the first pause, and the longest.
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0


@dataclass(eq=False, slots=True)
class _Entry:
    """A write in the line. `begun`: it is being made, so that nothing may be added to it."""

    write: Write
    writer: Writer
    size: int
    fate: asyncio.Future[Fate]
    begun: bool = False

    @property
    def subject(self) -> tuple[str, ...]:
        """What it changes, and whose it says that is."""
        return self.writer.identifier, self.write.thread_id, *self.write.subject


class Unsaved:
    """Writes in the order in which they came; none overtakes another.

    Args:
        threads, visitors: where they are made.
        max_bytes: how much may wait; what comes beyond is lost.
        patience: seconds that a write may take before those who wait for it are told that it waits.

    Attributes:
        lost: how many writes were not kept since the start.
        away_since: since when the database takes no writes, ISO 8601; None: it does.
        on_fate: told of each write that waits or is lost, and of what is said in a conversation that is deleted.
        on_all_kept: told when nothing waits any more, after something had.
    """

    def __init__(
        self, threads: Threads, visitors: Visitors, *, max_bytes: int = 16 * 1024 * 1024, patience: float = 2.0
    ) -> None:
        self._threads = threads
        self._visitors = visitors
        self._max_bytes = max_bytes
        self._patience = patience
        self._line: deque[_Entry] = deque()
        self._newest: dict[tuple[str, ...], _Entry] = {}
        self._bytes = 0
        self._told = False
        self._hurry = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._making = asyncio.Lock()
        self.lost = 0
        self.away_since: str | None = None
        self.on_fate: Callable[[Write, Writer, Fate], None] = lambda *_: None
        self.on_all_kept: Callable[[], None] = lambda: None

    @property
    def waiting(self) -> int:
        """How many writes are not made yet."""
        return len(self._line)

    def add(self, write: Write, writer: Writer) -> asyncio.Future[Fate]:
        """Put a write at the end of the line. A later state of the same takes the place of the one that waits.

        Returns:
            What becomes of it, known after `patience` at the latest: who waits for it may go on then.
        """
        # By whose it is, too: a stranger may name the same.
        earlier = self._newest.get((writer.identifier, write.thread_id, *write.subject))
        merged = in_one(earlier.write, write) if earlier and not earlier.begun else None
        size = size_of(asdict(merged or write))
        entry = earlier if merged is not None else None
        added = size - (entry.size if entry else 0)
        if self._bytes + added > self._max_bytes:
            return self.refuse(write, writer, f"{self._bytes / 1e6:.1f} MB wait already")
        self._bytes += added
        if entry is not None and merged is not None:
            entry.write, entry.size = merged, size
        else:
            entry = _Entry(write, writer, size, asyncio.get_running_loop().create_future())
            self._line.append(entry)
            self._newest[entry.subject] = entry
        if self.away_since is not None:
            self._let_wait(entry)
        self.wake()
        return entry.fate

    def refuse(self, write: Write, writer: Writer, why: str) -> asyncio.Future[Fate]:
        """Count a write as lost; returns that."""
        log.error("CHAT not kept, %s refused: %s", type(write).__name__, why)
        self._lose(write, writer)
        fate: asyncio.Future[Fate] = asyncio.get_running_loop().create_future()
        fate.set_result("lost")
        return fate

    def of(self, thread_id: str, identifier: str) -> list[Write]:
        """A visitor's writes of a thread that wait, in their order."""
        return self.copy_of(thread_id).get(identifier, [])

    def copy_of(self, thread_id: str) -> dict[str, list[Write]]:
        """All writes of a thread that wait, in their order, by the name of the visitor whose they are."""
        found: dict[str, list[Write]] = {}
        for entry in self._line:
            if entry.write.thread_id == thread_id:
                found.setdefault(entry.writer.identifier, []).append(entry.write)
        return found

    def writer_of(self, thread_id: str) -> Writer | None:
        """Whose writes that make a thread wait; None: nobody's, or those of several, who cannot all be its visitor."""
        found = (entry for entry in self._line if entry.write.thread_id == thread_id and makes_thread(entry.write))
        writers = {entry.writer.identifier: entry.writer for entry in found}
        return next(iter(writers.values())) if len(writers) == 1 else None

    def has_all_of(self, thread_id: str, identifier: str) -> bool:
        """Whether a visitor's thread was begun while writes waited, so that all of it is here."""
        writes = self.of(thread_id, identifier)
        said = [write.step.type for write in writes if isinstance(write, SaveStep)]
        makes = any(isinstance(write, SaveThread) and write.make for write in writes)
        return makes and said[:1] == ["user_message"]

    def forget(self, thread_id: str) -> None:
        """Make no more writes of a thread that its visitor has deleted."""
        self._drop(lambda entry: entry.write.thread_id == thread_id)

    async def forget_all_of(self, identifier: str) -> None:
        """Make no more writes of a visitor who wants nothing kept; none is being made any more when this ends."""
        self._drop(lambda entry: entry.writer.identifier == identifier)
        async with self._making:
            # One whose database is away has come back into the line meanwhile.
            self._drop(lambda entry: entry.writer.identifier == identifier)

    def _drop(self, unwanted: Callable[[_Entry], bool]) -> None:
        gone = [entry for entry in self._line if not entry.begun and unwanted(entry)]
        self._line = deque(entry for entry in self._line if entry not in gone)
        for entry in gone:
            self._leave(entry, "kept")

    def wake(self) -> None:
        """See whether the database is there, and make what waits."""
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    def hurry(self) -> None:
        """The database has just taken something: do not wait for the next try."""
        self._hurry.set()

    async def close(self, seconds: float) -> None:
        """Try for so long to make what waits; what is left then is lost."""
        if self._line:
            self.wake()
            log.info("STORE ending, %d writes have %.0f s to be made", len(self._line), seconds)
        deadline = time.monotonic() + seconds
        while self._line and self._worker is not None and (left := deadline - time.monotonic()) > 0:
            self.hurry()
            await asyncio.wait({self._worker}, timeout=min(left, _FIRST_PAUSE))
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait({self._worker})
        if self._line:
            self.lost += len(self._line)
            log.error("STORE %d writes were not kept: the server ends and the database is away", len(self._line))
            for entry in list(self._line):
                self._leave(entry, "lost")
            self._line.clear()

    async def _work(self) -> None:
        """Until nothing waits and the database is there."""
        pause = _FIRST_PAUSE
        while True:
            try:
                if self._line:
                    async with self._making:
                        if self._line:
                            await self._make(self._line[0])
                else:
                    await self._threads.reach()
            except (DatabaseAway, DatabaseRefused) as problem:
                self._be_away(str(problem))
                self._hurry.clear()
                try:
                    await asyncio.wait_for(self._hurry.wait(), pause)
                except TimeoutError:
                    pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            self._be_back()
            if not self._line:
                return

    async def _make(self, entry: _Entry) -> None:
        entry.begun = True
        slow = asyncio.get_running_loop().call_later(self._patience, self._be_away, "no answer in time")
        try:
            user_id = entry.writer.user_id or (await self._visitors.add(entry.writer.identifier, {})).id
            await entry.write.make_it(self._threads, self._visitors, user_id)
        except (DatabaseAway, DatabaseRefused):
            entry.begun = False
            raise
        except ThreadDeleted:
            log.info("CHAT %s came too late, its conversation was deleted", type(entry.write).__name__)
            if isinstance(entry.write, SaveStep) and entry.write.step.type == QUESTION_TYPE:
                self.lost += 1
                self._leave(entry, "deleted")
                self.on_fate(entry.write, entry.writer, "deleted")
            else:
                self._leave(entry, "kept")
        except Exception:
            log.exception("CHAT not kept, %s failed", type(entry.write).__name__)
            self._leave(entry, "lost")
            self._lose(entry.write, entry.writer)
        else:
            self._leave(entry, "kept")
        finally:
            slow.cancel()

    def _leave(self, entry: _Entry, fate: Fate) -> None:
        """Out of the line."""
        if self._line and self._line[0] is entry:
            self._line.popleft()
        if self._newest.get(entry.subject) is entry:
            del self._newest[entry.subject]
        self._bytes -= entry.size
        if not entry.fate.done():
            entry.fate.set_result(fate)

    def _lose(self, write: Write, writer: Writer) -> None:
        self.lost += 1
        self.on_fate(write, writer, "lost")

    def _be_away(self, why: str) -> None:
        if self.away_since is None:
            self.away_since = now()
            log.error("STORE the database takes no writes, they wait: %s", why)
        for entry in self._line:
            if not entry.fate.done():
                self._let_wait(entry)

    def _let_wait(self, entry: _Entry) -> None:
        if not entry.fate.done():
            entry.fate.set_result("waiting")
        self._told = True
        self.on_fate(entry.write, entry.writer, "waiting")

    def _be_back(self) -> None:
        if self.away_since is not None:
            log.info("STORE the database is back, %d writes wait", len(self._line))
            self.away_since = None
        if not self._line and self._told:
            self._told = False
            self.on_all_kept()


def away_since(database: Database, unsaved: Unsaved | None) -> str | None:
    """Since when a database does not answer or takes no writes, ISO 8601; None: it is all right.

    Args:
        database: that may still answer who reads, while its disk is full.
        unsaved: what waits for it; None: no conversations are kept in it.
    """
    return (unsaved.away_since if unsaved is not None else None) or database.away_since
