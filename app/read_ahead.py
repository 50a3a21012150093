"""Reading ahead: while nobody is served, an engine reads what the next message of an open page will need anyway.

That is an old conversation that a visitor opens, and what stays of a conversation whose next turn will find its oldest
messages gone. It is read in steps, each a finished request for one token that goes nowhere: an engine keeps nothing of
a reading that is cancelled. Whoever sends a message comes first: the reading is given up at once, and its connection
is closed before the message goes out, which then waits for one batch of the prompt at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Hashable
from typing import TYPE_CHECKING, Final

from app.errors import ChatError
from app.history import SessionHistory
from app.prompting import ReplyOptions
from app.reading import NotInMemory, Reading, Wish

if TYPE_CHECKING:
    from app.chat import Chat

log = logging.getLogger(__name__)

# More open pages than this are not remembered; no cache holds nearly as many.
_MOST_WISHES: Final = 200
# What has found no room in the cache is looked at again after so many seconds: what is in use there may be no more.
_LOOK_AGAIN: Final = 60.0
# Longest wait for the connection of a reading that was given up to close, in seconds.
_PATIENCE: Final = 5.0


class ReadAhead:
    """Reads ahead for open pages, one after the other, in the order in which they came.

    Args:
        chat: knows engines, queues and what is held ready.
        engines: names of those that are used so.
        step: tokens of a step.

    Attributes:
        tokens, seconds: read ahead since the start, and the time that it took.
    """

    def __init__(self, chat: Chat, engines: Collection[str] = (), step: int = 256) -> None:
        self._chat = chat
        self._engines = frozenset(engines)
        self._step = step
        self._wishes: dict[Hashable, Wish] = {}
        self._news = False
        self._task: asyncio.Task[None] | None = None
        self._now: Reading | None = None
        self._later: asyncio.TimerHandle | None = None
        # What went wrong last, so that it is not said again for each page.
        self._failure = ""
        self.tokens = 0
        self.seconds = 0.0

    @property
    def reads(self) -> bool:
        """Whether something is being read now, or looked for."""
        return self._task is not None and not self._task.done()

    def want(self, page: Hashable, history: SessionHistory, options: ReplyOptions, *, may_load: bool = False) -> None:
        """Have everything read that the next message of a conversation will need; a page's new wish replaces its old
        one. Neither waits nor fails.

        Args:
            page: who wishes it.
            history: the conversation, in which nothing is being written.
            options: of the next reply.
            may_load: the model may be loaded for that, if no other is in memory.
        """
        last = history.last if self._engines and options.model else None
        wish = Wish(history, options, may_load, last, last.answer) if last is not None else None
        if wish is None or self._wishes.get(page) != wish:
            self.forget(page)
        if wish is not None:
            self._wishes.setdefault(page, wish)
            if len(self._wishes) > _MOST_WISHES:
                self.forget(next(iter(self._wishes)))
            self.wake()

    def forget(self, page: Hashable) -> None:
        """A page is gone, or shows something else."""
        wish = self._wishes.pop(page, None)
        if wish is not None and self._now is not None and self._now.wish is wish:
            self._give_up()

    def forget_conversation(self, conversation: str) -> None:
        """A conversation was deleted."""
        for page, wish in list(self._wishes.items()):
            if wish.history.conversation == conversation:
                self.forget(page)

    def wake(self) -> None:
        """Go on: something is wished, or an engine has become idle."""
        self._news = bool(self._wishes) and not self._chat.stopping
        if self._news and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work())
            self._task.add_done_callback(self._ended)

    def yield_to(self, engine: str) -> None:
        """Somebody has sent a message to an engine: what it reads ahead is given up."""
        if self._reads(engine):
            self._give_up()

    async def cleared(self, engine: str) -> None:
        """Wait until the connection of what was given up there is closed."""
        if self._task is not None and self._reads(engine):
            await asyncio.wait({self._task}, timeout=_PATIENCE)

    async def close(self) -> None:
        """End it."""
        self._wishes.clear()
        self._look_later(False)
        self._give_up()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_PATIENCE)

    def _reads(self, engine: str) -> bool:
        return self._now is not None and self._now.engine.name == engine

    def _give_up(self) -> None:
        # Once is enough: a second time would only disturb it while it closes its connection.
        if self._task is not None and not self._task.cancelling():
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What else is wished, of another engine perhaps, does not end with what was given up."""
        if task.cancelled():
            self.wake()

    def _look_later(self, wanted: bool) -> None:
        """Go on after a while even if nobody is served meanwhile."""
        if self._later is not None:
            self._later.cancel()
        self._later = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self.wake) if wanted else None

    async def _work(self) -> None:
        self._look_later(False)
        while self._news:
            self._news = False
            for page, wish in list(self._wishes.items()):
                # It may have been forgotten, or replaced, while another was read, or this one.
                if self._wanted(page, wish) and await self._is_done(page, wish) and self._wanted(page, wish):
                    del self._wishes[page]

    def _wanted(self, page: Hashable, wish: Wish) -> bool:
        return self._wishes.get(page) is wish

    async def _is_done(self, page: Hashable, wish: Wish) -> bool:
        """Read for a wish; False: it has to wait until an engine is idle again, or has room."""
        if not wish.stands:
            return True
        try:
            reading = await Reading.planned(self._chat, wish, self._engines)
            if reading is None:
                return True
            if not reading.has_room:
                self._look_later(True)
                return False
            done = await self._read(page, reading)
            self._failure = ""
            return done
        except NotInMemory:
            return True
        except ChatError as problem:
            if problem.code != self._failure:
                log.warning("CHAT nothing could be read ahead (%s)", problem.code)
            self._failure = problem.code
            return True
        except Exception:
            log.exception("CHAT nothing could be read ahead")
            return True

    async def _read(self, page: Hashable, reading: Reading) -> bool:
        """Read step by step; False: somebody came in between."""
        try:
            for step in reading.steps(self._step):
                if not reading.wish.stands or not self._wanted(page, reading.wish):
                    return True
                if not self._is_idle(reading):
                    return False
                self._now = reading
                await reading.take(step)
        finally:
            self._now = None
            self.tokens += reading.tokens
            self.seconds += reading.seconds
            reading.tell()
        return True

    def _is_idle(self, reading: Reading) -> bool:
        queue = self._chat.queue_of(reading.engine)
        return not queue.serving and not queue.waiting and not self._chat.stopping
