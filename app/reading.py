"""One conversation that is read ahead: what of it, in which steps, and what that took."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.engines.base import CachingEngine, Done, Loading, ModelInfo, Usage
from app.errors import EngineError
from app.history import SessionHistory, StoredMessage, Turn
from app.prompting import Asked, ReplyOptions
from app.steps_ahead import Step, steps_of
from app.warmth import Held

if TYPE_CHECKING:
    from app.chat import Chat

log = logging.getLogger(__name__)

# Fewer tokens than this are not worth a request: about a second.
_WORTH: Final = 64
# A conversation that was used in so many seconds is in use: nothing is read ahead that would push it out of the cache.
_IN_USE: Final = 600.0


class NotInMemory(Exception):
    """The model would have to be loaded first."""


@dataclass(frozen=True, slots=True)
class Wish:
    """That the next message of a conversation should find all that stands before it read.

    Attributes:
        options: of the next reply.
        may_load: the model may be loaded for that, if no other is in memory.
        last, answer: where the conversation's end is.
    """

    history: SessionHistory
    options: ReplyOptions
    may_load: bool
    last: Turn
    answer: StoredMessage | None

    @property
    def stands(self) -> bool:
        """Whether the conversation is still as it was."""
        return self.history.last is self.last and self.last.answer is self.answer


class Reading:
    """What an engine reads for a wish.

    Args:
        chat: knows what is held ready, and learns the speed.
        wish: what it is for.
        engine, model: read it.
        asked: what is to be read.
        known: tokens that are read already.

    Attributes:
        tokens, seconds: read, and what that took, until now.
    """

    def __init__(
        self, chat: Chat, wish: Wish, engine: CachingEngine, model: ModelInfo, asked: Asked, known: int
    ) -> None:
        self.wish = wish
        self.engine = engine
        self.tokens = 0
        self.seconds = 0.0
        self._chat = chat
        self._model = model
        self._asked = asked
        self._known = known
        self._unread = asked.prompt.window.tokens - known
        self._steps = 0
        # Tokens of the last step, by the engine's count.
        self._exact: int | None = None
        self._warmth = chat.warmth_of(engine)

    @classmethod
    async def planned(cls, chat: Chat, wish: Wish, engines: Collection[str]) -> Reading | None:
        """What is to be read for a wish; None: nothing, or not by one of these engines.

        Raises:
            ChatError: it cannot be told.
        """
        model = await chat.catalog.find(wish.options.model)
        engine = chat.catalog.engine_of(model)
        if engine.name not in engines or not isinstance(engine, CachingEngine) or not engine.keeps_prompts:
            return None
        if model.loaded is None:  # it would be loaded without a word
            return None
        asked = await chat.prompting.ahead(engine, model, wish.history, wish.options)
        held = chat.warmth_of(engine).held(model.id, wish.history.conversation)
        same = held is not None and (held.first, held.system) == (asked.prompt.window.first, wish.options.system)
        known = held.tokens if held is not None and same else 0
        if asked.prompt.window.tokens - known < _WORTH:
            return None
        return cls(chat, wish, engine, model, asked, known)

    @property
    def has_room(self) -> bool:
        """Whether all conversations that are in use, this one among them, fit into the cache together."""
        room = self.engine.cache_room(self._model.name)
        others = self._warmth.in_use(self._model.id, self.wish.history.conversation, _IN_USE)
        return room is None or not others or others + self._asked.prompt.window.tokens <= room

    def steps(self, size: int) -> Iterator[Step]:
        """The steps that are left, of `size` tokens."""
        if self.engine.moves_cache and self._warmth.in_slot(self._model.id, self.wish.history.conversation):
            # What stays of it is moved at once; a first step would throw the rest out of the slot.
            size = self._asked.prompt.window.tokens + 1
        return steps_of(self._asked, self._model.id, size, self._known)

    async def take(self, step: Step) -> None:
        """Have a step read.

        Raises:
            NotInMemory: the model would be loaded, which is not to be done for this.
            EngineError: the engine failed.
        """
        self._hold()
        began = self._chat.clock()
        try:
            usage = await self._send(step)
        except EngineError:  # it may be dead
            self._warmth.forget()
            raise
        finally:
            self.seconds += self._chat.clock() - began
        self._learn(usage)
        self.tokens += step.tokens - self._known
        self._known, self._exact = step.tokens, usage.prompt_tokens
        self._steps += 1
        self._hold()

    def tell(self) -> None:
        """Write into the log what was read, if anything was tried."""
        steps = "1 step" if self._steps == 1 else f"{self._steps} steps"
        if self.tokens >= self._unread:
            log.info("CHAT %s read ahead %s tokens in %.1f s, %s", *self._told(), steps)
        elif self.seconds:
            told = "CHAT %s read ahead %s tokens in %.1f s, %s, given up with %s left"
            log.info(told, *self._told(), steps, f"{self._unread - self.tokens:,}")

    def _told(self) -> tuple[str, str, float]:
        return self._model.id, f"{self.tokens:,}", self.seconds

    def _hold(self) -> None:
        """What the engine has of the conversation, which is in its slot now."""
        held = Held(self._known, self._asked.prompt.window.first, self.wish.options.system)
        self._chat.hold(self.engine, self._model, self.wish.history.conversation, held)

    async def _send(self, step: Step) -> Usage:
        async with aclosing(self.engine.complete(step.request)) as events:
            async for event in events:
                if isinstance(event, Loading):
                    self._warmth.forget()
                    if not (self.wish.may_load and self._is_alone()):
                        raise NotInMemory
                if isinstance(event, Done):
                    return event.usage
        raise RuntimeError(f"{self.engine.label} ended a reply without its end")

    def _is_alone(self) -> bool:
        """Whether no other model of the engine is in memory, which might have to go."""
        known = self._chat.catalog.known
        return not any(m.loaded and m.engine == self._model.engine and m.id != self._model.id for m in known)

    def _learn(self, usage: Usage) -> None:
        """The model's speed, by what was surely read: what a step has more than the one before."""
        whole, cached = usage.prompt_tokens or 0, usage.cached_tokens
        before = self._exact if cached is None else cached
        if before is not None:
            read = max(whole - before, 0)
            fresh = None if cached is None else 0
            self._chat.speeds.observe(self._model.id, Usage(read, None, 0.0, usage.prompt_seconds, 0.0, fresh))
