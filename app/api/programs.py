"""What programs send, made turns: both APIs ask for replies here."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from starlette.types import Receive

from app.api.relay import Relay, while_there
from app.asker import Asker
from app.chat import Chat
from app.engines.base import GenerationOptions, Role, ToolCall
from app.errors import EmptyMessage, MessageTooLarge, Stopping
from app.forward import Forwarded, forward_many
from app.history import SessionHistory, StoredMessage, turns_of
from app.prompting import ReplyOptions
from app.turn import ChatTurn, readable

log = logging.getLogger(__name__)

# Messages whose size is remembered: a program sends the whole conversation each time.
_REMEMBERED: Final = 20_000
_SEPARATOR: Final = "\n\n"


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message as a program sends it; `tool_call_id`: which call a tool's message answers."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a reply is sampled with where a program does not say. See `GenerationOptions`."""

    temperature: float
    top_p: float
    max_tokens: int


class Sizes:
    """The sizes of messages, by model, as far as engines have told them.

    A program sends its whole conversation with each question. What was counted once must count the same the next time,
    or the window would wander and the engine's cache be lost.
    """

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[bytes, dict[str, int]] = OrderedDict()

    def of(self, message: SentMessage) -> dict[str, int]:
        """The sizes of a message; what is written into them is remembered."""
        key = _digest(message)
        tokens = self._known.setdefault(key, {})
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return tokens

    def __len__(self) -> int:
        return len(self._known)


class Programs:
    """Replies for programs.

    Args:
        chat: makes them.
        defaults: how they are sampled where a program does not say.
        comment_seconds: how often a stream that waits says so.
    """

    def __init__(self, chat: Chat, defaults: Defaults, *, comment_seconds: float) -> None:
        self.chat = chat
        self.defaults = defaults
        self.comment_seconds = comment_seconds
        self._sizes = Sizes()
        self._running: dict[Relay, asyncio.Task[None]] = {}
        self._batches: set[asyncio.Task[list[Forwarded]]] = set()

    def turn(
        self,
        messages: Sequence[SentMessage],
        *,
        model: str,
        generation: GenerationOptions,
        strict: bool = False,
        raw: bool = False,
        asker: Asker,
    ) -> ChatTurn:
        """The turn that answers a conversation.

        Args:
            messages: oldest first. Those of the system at their beginning are the system prompt.
            model, generation, strict, raw: see `ReplyOptions`.
            asker: who asks.

        Raises:
            EmptyMessage: there is none.
            MessageTooLarge: one has more bytes than this server takes.
            TooManyMessages: there are more than it takes.
        """
        self.chat.check_count(len(messages))
        readables = [self._readable(message) for message in messages]
        if not readables:
            raise EmptyMessage
        first = next((n for n, message in enumerate(readables) if message.role != "system"), 0)
        system = _SEPARATOR.join(message.text for message in readables[:first])
        names = {call.id: call.name for message in readables for call in message.tool_calls}
        stored = [
            StoredMessage(
                f"m{number}",
                message.text,
                self._sizes.of(message),
                message.role,
                message.tool_calls,
                message.tool_call_id,
                names.get(message.tool_call_id, ""),
            )
            for number, message in enumerate(readables[first:])
        ]
        turns = turns_of(stored)
        history = SessionHistory(_name(system, stored[0].text), turns)
        options = ReplyOptions(model, system, generation, strict, raw)
        return self.chat.turn(history, turns[-1].question, f"m{len(stored)}", options, asker=asker)

    def start(self, turn: ChatTurn) -> Relay:
        """Let a turn begin. It ends with the server, if not before."""
        relay = Relay(turn)
        task = self._running[relay] = relay.start()
        task.add_done_callback(lambda _: self._ended(relay))
        return relay

    async def forward(
        self, prompts: Sequence[str], options: ReplyOptions, asker: Asker, receive: Receive
    ) -> list[Forwarded]:
        """See `forward_many`. It ends with the server, and when the client goes.

        Raises:
            ChatError: nothing at all could be asked, or the server ends.
            ClientLeft: the client has gone.
        """
        task = asyncio.create_task(forward_many(self.chat, prompts, options, asker))
        self._batches.add(task)
        try:
            return await while_there(receive, task)
        except asyncio.CancelledError:
            if task not in self._batches:  # see wind_up
                raise Stopping from None
            raise
        finally:
            self._batches.discard(task)

    async def wind_up(self, seconds: float) -> None:
        """The server ends: replies have that long to finish, then they are stopped."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._working and (left := deadline - asyncio.get_running_loop().time()) > 0:
            log.info("HEALTH ending, %d replies to programs have %.0f s to finish", len(self._working), left)
            await asyncio.wait(self._working, timeout=left)
        for relay in list(self._running):
            relay.stop()
        while self._batches:
            self._batches.pop().cancel()

    @property
    def _working(self) -> list[asyncio.Task[Any]]:
        return [*self._running.values(), *self._batches]

    def _ended(self, relay: Relay) -> None:
        self._running.pop(relay, None)
        answer = relay.turn.answer
        if answer is not None and answer.tokens and not relay.turn.tool_calls:
            self._sizes.of(SentMessage("assistant", answer.text)).update(answer.tokens)

    def _readable(self, message: SentMessage) -> SentMessage:
        size = len(message.text.encode("utf-8", "replace"))
        if size > self.chat.max_message_bytes:
            raise MessageTooLarge(size=size, limit=self.chat.max_message_bytes)
        calls = tuple(ToolCall(*map(readable, (call.id, call.name, call.arguments))) for call in message.tool_calls)
        return SentMessage(message.role, readable(message.text), calls, readable(message.tool_call_id))


def _digest(message: SentMessage) -> bytes:
    calls = "".join(f"\0{call.name}\0{call.arguments}" for call in message.tool_calls)
    return blake2b(f"{message.role}\0{message.text}{calls}".encode(), digest_size=16).digest()


def _name(system: str, question: str) -> str:
    """The same for every request of a conversation, so that its engine finds what it has read of it."""
    return "api-" + blake2b(f"{system}\0{question}".encode(), digest_size=16).hexdigest()
