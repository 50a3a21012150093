"""The way that every reply goes, whether the page or an API asked for it.

message, options -> admission (queue) -> context window -> engine -> stream of events -> metrics, log, history
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

from app.admission import Queue
from app.asker import Asker
from app.engines.base import CachingEngine, Embeddings, Engine, ModelInfo, Usage
from app.engines.catalog import Catalog
from app.engines.speeds import SpeedBook
from app.errors import (
    CannotChat,
    CannotEmbed,
    CannotGoOn,
    EmptyMessage,
    MemoryShort,
    MessageTooLarge,
    Stopping,
    TooManyMessages,
    Unsupported,
)
from app.forecast import Request
from app.history import SessionHistory, StoredMessage
from app.metrics import Ended
from app.prompting import Prompting, ReplyOptions
from app.rates import Rates
from app.read_ahead import ReadAhead
from app.tokens import TokenEstimator, bytes_estimate
from app.turn import ChatTurn, readable
from app.warmth import Held, Warmth


class Chat:
    """The parts that every turn goes through, put together once.

    Args:
        catalog: which models there are.
        speeds: learns from each reply.
        estimator: token counts of what no engine has seen.
        slots: replies that an engine works on at once; 0: as many as it says.
        max_waiting: people who may wait for an engine.
        max_waiting_each: requests of each of them that may.
        max_wait: seconds after which one that waits is refused.
        max_message_bytes: largest message, in bytes of UTF-8.
        max_messages: most messages in one request.
        window_low: share of the conversation's room that stays after a cut.
        fallback_model: answers when the chosen model's engine fails before its first token; empty: none.
        rates: how often each may ask.
        ahead_on: names of the engines that read ahead, see `ReadAhead`; `ahead_step`: tokens of a step.
        on_end: told of each reply that has ended, whichever way. It neither waits nor fails.
        memory_short: whether there is no memory for another reply.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        speeds: SpeedBook | None = None,
        estimator: TokenEstimator | None = None,
        slots: int = 0,
        max_waiting: int = 16,
        max_waiting_each: int = 1,
        max_wait: float = 600,
        max_message_bytes: int = 262_144,
        max_messages: int = 1000,
        window_low: float = 0.5,
        fallback_model: str = "",
        rates: Rates | None = None,
        ahead_on: Collection[str] = (),
        ahead_step: int = 256,
        on_end: Callable[[Ended], None] = lambda _: None,
        memory_short: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.catalog = catalog
        self.speeds = speeds or SpeedBook()
        self.estimator = estimator or TokenEstimator()
        self.max_message_bytes = max_message_bytes
        self.max_messages = max_messages
        self.rates = rates or Rates()
        self.prompting = Prompting(catalog, self.estimator, window_low)
        self.fallback_model = fallback_model
        self.on_end = on_end
        self.memory_short = memory_short
        self.clock = clock
        self._slots = slots
        self._max_waiting = max_waiting
        self._max_waiting_each = max_waiting_each
        self._max_wait = max_wait
        self._queues: dict[str, Queue] = {}
        self._warmth: dict[str, Warmth] = {}
        self.stopping = False
        self.ahead = ReadAhead(self, ahead_on, ahead_step)
        catalog.on_read(self._forget_unloaded)

    def turn(
        self,
        history: SessionHistory,
        question: StoredMessage,
        answer_id: str,
        options: ReplyOptions,
        *,
        asker: Asker | None = None,
        begun: StoredMessage | None = None,
    ) -> ChatTurn:
        """A turn that asks `question`; nothing happens until its events are read.

        Args:
            history: the conversation; a question whose id it knows replaces that one and all after it.
            question: the visitor's message.
            answer_id: the id that the answer gets in the history.
            options: model, system prompt, sampling.
            asker: who asks; None: a page that tells nobody apart.
            begun: the answer so far, to be gone on with; the question is the last one, and has it.
        """
        return ChatTurn(self, history, question, answer_id, options, asker or Asker("page"), begun)

    async def embed(
        self, model: str, texts: Sequence[str], *, asker: Asker | None = None
    ) -> tuple[ModelInfo, Embeddings]:
        """Vectors of texts, in a slot of the engine like every reply.

        Args:
            model: a model's id, name or alias.
            asker: who asks; None: a program that nobody tells apart.

        Raises:
            ChatError: it failed, the model cannot embed, too much was asked for, or the queue is full.
        """
        self.check_open()
        asker = asker or Asker("v1")
        await self.rates.count(asker)
        found = await self.catalog.find(model)
        engine = self.catalog.engine_of(found)
        if found.can_embed is False:
            raise CannotEmbed(parameter="input", model=found.name, engine=engine.label)
        # How fast a model is that was never asked, a chat's speed does not tell.
        expected = self.expected(engine, found, texts) if self.speeds.knows(found.id) else None
        async with self.slot(engine, asker, expected):
            if self.warmth_of(engine).model == found.id:
                self.hold(engine, found, "", Held(0, 0))  # its text takes the slot of what was said last
            began = self.clock()
            vectors = await engine.embed(found.name, texts, self.catalog.context_length(found))
            if found.loaded is False:  # it was loaded first, perhaps in place of another
                self.catalog.expire()
            else:
                seconds = self.clock() - began
                self.speeds.observe(found.id, Usage(vectors.prompt_tokens, None, 0.0, seconds, 0.0, cached_tokens=0))
            return found, vectors

    @asynccontextmanager
    async def slot(self, engine: Engine, asker: Asker, expected: Request | None) -> AsyncIterator[None]:
        """Within, a slot of an engine is the asker's, who has waited for it without being told anything.

        Args:
            engine: whose.
            asker: who asks.
            expected: what it will take; None: not known.

        Raises:
            AlreadyWaiting, Busy, WaitedTooLong, MemoryShort: it comes to nothing.
        """
        ticket = self.queue_of(engine).join(asker.who, asked_in=asker.request_id, expected=expected)
        try:
            async with aclosing(ticket.wait()) as places:
                async for _ in places:
                    pass
            self.check_memory()
            await self.ahead.cleared(engine.name)
            yield
        finally:
            ticket.leave()

    def expected(self, engine: Engine, model: ModelInfo, texts: Sequence[str], max_tokens: int = 0) -> Request:
        """What it will take to read texts of which nothing is held, and to write so much; about, so that who waits
        behind is told something."""
        tokens = sum(map(bytes_estimate, texts))
        warmth, loaded = self.warmth_of(engine), model.loaded is not False
        return Request(self.speeds, warmth, model.id, "", 0, "", tokens, tokens, max_tokens, loaded=loaded)

    def check_open(self) -> None:
        """Whether a reply may be asked for now. One that has a place in a queue by then is still begun.

        Raises:
            Stopping: the server is about to end.
            MemoryShort: there is hardly any memory left.
        """
        if self.stopping:
            raise Stopping
        self.check_memory()

    def check_memory(self) -> None:
        """Raises MemoryShort where there is hardly any left."""
        if self.memory_short():
            raise MemoryShort

    def checked(self, text: str) -> str:
        """A message as engines and databases take it.

        Raises:
            EmptyMessage: there is nothing in it.
            MessageTooLarge: it has too many bytes.
        """
        text = readable(text)
        if not text.strip():
            raise EmptyMessage
        self.check_size(text)
        return text

    def check_size(self, text: str) -> None:
        """Raises MessageTooLarge where a message has too many bytes."""
        size = len(text.encode("utf-8", "replace"))
        if size > self.max_message_bytes:
            raise MessageTooLarge(size=size, limit=self.max_message_bytes)

    def check_count(self, messages: int) -> None:
        """Raises TooManyMessages where a request has too many."""
        if messages > self.max_messages:
            raise TooManyMessages(count=messages, limit=self.max_messages)

    def check_features(
        self, engine: Engine, model: ModelInfo, options: ReplyOptions, *, continues: bool = False
    ) -> None:
        """Refuse what the model or its engine cannot honour; `continues`: an answer is to be gone on with.

        Raises:
            Unsupported: with OpenAI's name of what it is.
        """
        if not model.can_chat:
            raise CannotChat(parameter="messages", model=model.name, engine=engine.label)
        wanted = options.generation.features() | ({"raw"} if options.raw else set())
        if continues and "continue" not in engine.features:
            raise CannotGoOn(parameter="messages", model=model.name, engine=engine.label)
        missing = sorted(wanted - engine.features)
        if "tools" in wanted and model.can_use_tools is False:
            missing.insert(0, "tools")
        if missing:
            raise Unsupported(parameter=missing[0], model=model.name, engine=engine.label)

    @property
    def queues(self) -> Mapping[str, Queue]:
        """The queues in front of the engines that were asked, by engine."""
        return self._queues

    @property
    def serving(self) -> int:
        """How many replies engines work on now."""
        return sum(queue.serving for queue in self._queues.values())

    @property
    def waiting(self) -> int:
        """How many wait for an engine."""
        return sum(queue.waiting for queue in self._queues.values())

    def queue_of(self, engine: Engine) -> Queue:
        """The queue in front of an engine."""
        if engine.name not in self._queues:
            queue = self._queues[engine.name] = Queue(
                lambda: self._slots or engine.slots,
                self._max_waiting,
                each=self._max_waiting_each,
                max_wait=self._max_wait,
                clock=self.clock,
            )
            queue.on_join, queue.on_idle = partial(self.ahead.yield_to, engine.name), self.ahead.wake
        return self._queues[engine.name]

    def warmth_of(self, engine: Engine) -> Warmth:
        """What an engine is believed to hold ready."""
        warmth = self._warmth.setdefault(engine.name, Warmth(clock=self.clock))
        warmth.slots = self.queue_of(engine).slots
        return warmth

    def hold(self, engine: Engine, model: ModelInfo, conversation: str, held: Held) -> None:
        """An engine has read, or written, a conversation that far; see `Warmth.used`."""
        room = engine.cache_room(model.name) if isinstance(engine, CachingEngine) else None
        self.warmth_of(engine).used(model.id, conversation, held, room)

    def _forget_unloaded(self) -> None:
        """What was held is lost where an engine says that its model is not in memory any more: nobody has used it for
        its keep_alive, or another program had another one loaded."""
        for model in self.catalog.listed:
            warmth, queue = self._warmth.get(model.engine), self._queues.get(model.engine)
            if (
                model.loaded is False
                and warmth is not None
                and warmth.model == model.id
                and not (queue and queue.serving)
            ):
                warmth.forget()
