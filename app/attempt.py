"""An engine is asked for a reply; what it then holds, and how fast it was, is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from app.engines.base import Delta, Done, Engine, EngineEvent, Loading, ModelInfo, ToolCalls
from app.errors import EngineError
from app.forecast import Request
from app.prompting import Asked
from app.warmth import Held

if TYPE_CHECKING:
    from app.chat import Chat


class Attempt:
    """One request to an engine.

    Args:
        chat: knows what is held ready, and learns the speeds.
        engine, model: are asked.
        asked: what for.
        system: the system prompt of that.
        new_tokens: of its prompt, the new message, which is always read.
    """

    def __init__(
        self, chat: Chat, engine: Engine, model: ModelInfo, asked: Asked, *, system: str, new_tokens: int
    ) -> None:
        self._chat = chat
        self._engine = engine
        self._model = model
        self._window = asked.prompt.window
        self._request = asked.request
        self._conversation = asked.request.conversation or ""
        self._system = system
        self._new_tokens = new_tokens

    @property
    def expected(self) -> Request:
        """What the queue's estimates are made of."""
        return Request(
            self._chat.speeds,
            self._chat.warmth_of(self._engine),
            self._model.id,
            self._conversation,
            self._window.first,
            self._system,
            self._window.tokens,
            self._new_tokens,
            self._request.options.max_tokens,
            loaded=self._model.loaded is not False,
        )

    async def events(self) -> AsyncGenerator[EngineEvent, None]:
        """The engine's events.

        Raises:
            EngineError: see `Engine.complete`.
        """
        warmth, known = self._chat.warmth_of(self._engine), self.expected.held()
        pieces, loaded, thinks, ended = 0, False, False, False
        try:
            async with aclosing(self._engine.complete(replace(self._request, held_tokens=known))) as events:
                async for event in events:
                    if isinstance(event, Loading):
                        warmth.forget()
                        known, loaded = 0, True
                    elif isinstance(event, Delta | ToolCalls):
                        if not pieces:
                            self._hold(self._window.tokens)
                            if loaded:
                                self._chat.catalog.expire()
                        pieces += 1
                        thinks = thinks or (isinstance(event, Delta) and event.kind == "reasoning")
                    elif isinstance(event, Done):
                        ended, usage = True, event.usage
                        self._chat.speeds.observe(
                            self._model.id, usage, held=known, cut=event.finish_reason == "length"
                        )
                        read = usage.prompt_tokens or self._window.tokens
                        # Reasoning is no part of the next prompt: what follows it is read again.
                        self._hold(read + (0 if thinks else usage.reply_tokens or 0))
                    yield event
        except EngineError:
            if pieces:  # it may be dead
                warmth.forget()
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if pieces and not ended:
                self._hold(self._window.tokens + (0 if thinks else pieces))
            raise

    def _hold(self, tokens: int) -> None:
        """The engine has read the prompt, and written as much as makes it `tokens` together. What does not come back
        is held in vain."""
        held = Held(tokens if self._conversation else 0, self._window.first, self._system)
        self._chat.hold(self._engine, self._model, self._conversation, held)
