"""One turn: from the question to its reply, whatever happens on the way."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from app.asker import Asker
from app.attempt import Attempt
from app.engines.base import (
    Delta,
    Done,
    Engine,
    FinishReason,
    Loading,
    ModelInfo,
    Reading,
    ToolCall,
    ToolCalls,
)
from app.errors import (
    AlreadyWaiting,
    ChatError,
    EmptyMessage,
    EngineError,
    InputError,
    NoModel,
    PromptTooLong,
    ReplyTooLong,
    TooManyRequests,
)
from app.going_on import Seam
from app.history import Prompt, SessionHistory, StoredMessage, Turn
from app.metrics import Ended, Outcome, ReplyMetrics
from app.prompting import Asked, ReplyOptions
from app.stopwatch import Stopwatch

if TYPE_CHECKING:
    from app.chat import Chat

log = logging.getLogger(__name__)

# How often a window is cut again after the engine has named the exact size of a prompt that was too long.
_CUTS: Final = 3


def readable(text: str) -> str:
    """`text` without what no engine and no database takes: NUL goes, a lone surrogate becomes U+FFFD."""
    return text.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The queue: `ahead` people are served or wait before this one; its turn comes in about `seconds_left`, None where
    there is nothing to go by."""

    ahead: int
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The reply is complete; the turn holds it."""

    finish_reason: FinishReason


Event = Waiting | Loading | Reading | Delta | ToolCalls | Finished


class ChatTurn:
    """One question on its way to its reply. Iterate over `events()` once; what came stays here, however it ends.

    Attributes:
        options: what was chosen for it.
        question: as it stands in the history.
        answer: what was written, as it stands in the history; None while nothing is, and when nothing came.
        model: which model answers; None until it is known.
        fallback_from: the model that was asked first and failed, when FALLBACK_MODEL answers in its place.
        text, reasoning: what has come so far.
        tool_calls: functions that the model asked for.
        left_out: turns of the conversation that the model no longer reads; `left_out_messages`: messages of them.
        newly_left_out: whether this turn is the first without some of them.
        error: why the turn failed, if it did.
        metrics: set when the turn has ended, whichever way.
        counted: messages whose exact size became known in this turn, to be stored with them.
        asker: who asked.
        begun: the answer that is gone on with, as it was; `text` and `answer` have it at their beginning.
    """

    def __init__(
        self,
        chat: Chat,
        history: SessionHistory,
        question: StoredMessage,
        answer_id: str,
        options: ReplyOptions,
        asker: Asker,
        begun: StoredMessage | None = None,
    ) -> None:
        self._chat = chat
        self._history = history
        self.begun = begun
        self._seam = Seam(begun) if begun is not None else None
        self.options = options
        self.asker = asker
        self.question = question
        self.answer_id = answer_id
        self.answer: StoredMessage | None = None
        self.model: ModelInfo | None = None
        self.fallback_from: ModelInfo | None = None
        self.text = begun.text if begun is not None else ""
        self.reasoning = ""
        self.tool_calls: tuple[ToolCall, ...] = ()
        self.left_out = 0
        self.left_out_messages = 0
        self.newly_left_out = False
        self.finish_reason: FinishReason | None = None
        self.error: ChatError | None = None
        self.metrics: ReplyMetrics | None = None
        self.counted: dict[str, StoredMessage] = {}
        self._watch = Stopwatch(chat.clock)
        self._prompt: Prompt | None = None

    async def events(self) -> AsyncGenerator[Event, None]:
        """The turn's events, `Finished` last.

        Closing the generator, or cancelling the task that reads it, ends the engine's work; what was written stays in
        `text` and in the history.

        Raises:
            ChatError: it failed; what had come is kept the same way.
        """
        outcome: Outcome = "stopped"
        replaced: Sequence[Turn] = ()
        seen_left_out = self._history.seen_left_out
        try:
            self._check_text()
            if self._history.last is None or self._history.last.question is not self.question:
                replaced = self._history.ask(self.question)
            self._chat.check_size(self.question.text)
            async with aclosing(self._answer()) as events:
                async for event in events:
                    yield event
            outcome = "finished"
        except ChatError as problem:
            self.error = problem
            outcome = "failed"
            if self.refused and replaced:
                self._history.take_back(replaced)
                self._history.seen_left_out = seen_left_out
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._close(outcome)

    @property
    def refused(self) -> bool:
        """Whether the message itself, or that it comes so soon, is why there is no reply. An edit that is refused has
        changed nothing."""
        return isinstance(self.error, InputError | PromptTooLong | TooManyRequests | AlreadyWaiting)

    def _check_text(self) -> None:
        self.question.text = readable(self.question.text)
        if not self.question.counted.strip():
            raise EmptyMessage

    async def _answer(self) -> AsyncGenerator[Event, None]:
        self._chat.check_open()
        await self._chat.rates.count(self.asker)
        if not self.options.model:
            raise NoModel
        try:
            self.model = await self._chat.catalog.find(self.options.model)
            async with aclosing(self._from(self.model)) as events:
                async for event in events:
                    yield event
        except EngineError as problem:
            fallback = await self._fallback(problem)
            if fallback is None:
                raise
            log.warning("CHAT %s failed (%s), %s answers in its place", self._asked, problem.code, fallback.id)
            engine, _, name = self._asked.rpartition("/")
            self.fallback_from, self.model = self.model or ModelInfo(engine, name), fallback
            async with aclosing(self._from(fallback)) as events:
                async for event in events:
                    yield event

    @property
    def came(self) -> str:
        """What of the text this turn has brought: all of it, but for an answer that is gone on with."""
        if self._seam is None:
            return self.text
        return self.text[len(self._seam.sent.text) :] if self._seam.joined else ""

    @property
    def cut_off(self) -> bool:
        """Whether the answer has ended, or would end now, before the model has ended it."""
        return bool(self.text.strip()) and self.finish_reason in (None, "length") and not self.tool_calls

    @property
    def can_go_on(self) -> bool:
        """Whether the answer was cut off, and its engine can go on with it in what is left of the context."""
        if not self.cut_off or self.options.raw or isinstance(self.error, ReplyTooLong):
            return False
        if self.model is None or self._prompt is None:
            return self.begun is not None
        engine = self._chat.catalog.engine_of(self.model)
        return "continue" in engine.features and self._prompt.budget.goes_on(self._prompt.asked + self._watch.written)

    @property
    def context_full(self) -> bool:
        """Whether the answer was cut off and cannot go on because the model can read no more at once."""
        prompt = self._prompt
        return self.cut_off and prompt is not None and not prompt.budget.goes_on(prompt.asked + self._watch.written)

    async def _fallback(self, problem: EngineError) -> ModelInfo | None:
        """The model to ask instead, if nothing has come yet and one is set."""
        if not self._chat.fallback_model or self._watch.pieces or isinstance(problem, PromptTooLong):
            return None
        try:
            model = await self._chat.catalog.find(self._chat.fallback_model)
            self._check_features(self._chat.catalog.engine_of(model), model)
        except ChatError as unfit:
            log.warning("CHAT FALLBACK_MODEL: %s", unfit)
            return None
        return None if model.id == self._asked else model

    @property
    def _asked(self) -> str:
        return self.model.id if self.model else self.options.model

    def _check_features(self, engine: Engine, model: ModelInfo) -> None:
        self._chat.check_features(engine, model, self.options, continues=self.begun is not None)

    async def _from(self, model: ModelInfo) -> AsyncGenerator[Event, None]:
        engine = self._chat.catalog.engine_of(model)
        self._check_features(engine, model)
        # Before it waits: a conversation that cannot fit is refused at once, and what is left out is known.
        asked = await self._request(engine, model)
        expected = self._attempt(engine, model, asked).expected
        ticket = self._chat.queue_of(engine).join(self.asker.who, asked_in=self.asker.request_id, expected=expected)
        self._watch.join()
        try:
            async with aclosing(ticket.wait()) as places:
                async for place in places:
                    yield Waiting(place.ahead, place.seconds_left)
            self._chat.check_memory()
            await self._chat.ahead.cleared(engine.name)
            self._watch.admit()
            async with aclosing(self._complete(engine, model, asked)) as events:
                async for event in events:
                    if isinstance(event, Delta | ToolCalls):
                        ticket.writes()
                    yield event
        finally:
            ticket.leave()

    async def _complete(self, engine: Engine, model: ModelInfo, asked: Asked) -> AsyncGenerator[Event, None]:
        """Ask the engine; where it names the exact size of a prompt too long for it, cut the window again."""
        for cut in range(_CUTS):
            if cut:
                asked = await self._request(engine, model)
            try:
                async with aclosing(self._attempt(engine, model, asked).events()) as events:
                    async for event in events:
                        if isinstance(event, Delta):
                            event = self._add(event)
                        if isinstance(event, ToolCalls):
                            self._call(event)
                        if isinstance(event, Done):
                            self._done(asked, model, event)
                            yield Finished(event.finish_reason)
                        elif not isinstance(event, Delta) or event.text:
                            yield event
                return
            except PromptTooLong as problem:
                self._learn(asked, model, problem.tokens)
                if cut == _CUTS - 1 or problem.tokens <= 0 or self.options.strict:
                    raise
                log.info("CHAT %s: prompt of %d tokens, cut again", model.id, problem.tokens)

    def _attempt(self, engine: Engine, model: ModelInfo, asked: Asked) -> Attempt:
        new_tokens = asked.estimate(self.question.counted)
        return Attempt(self._chat, engine, model, asked, system=self.options.system, new_tokens=new_tokens)

    async def _request(self, engine: Engine, model: ModelInfo) -> Asked:
        begun = self._seam.sent if self._seam is not None else None
        asked = await self._chat.prompting.request(engine, model, self._history, self.options, begun)
        self._prompt = asked.prompt
        first = asked.prompt.window.first
        self.left_out_messages = asked.prompt.left_out
        self.newly_left_out = self.newly_left_out or first > self._history.seen_left_out
        self.left_out = self._history.seen_left_out = first
        return asked

    def _add(self, delta: Delta) -> Delta:
        """Take a piece; what of it is passed on."""
        self._watch.come()
        if delta.kind == "reasoning":
            self.reasoning += delta.text
            return delta
        if self._seam is None:
            self.text += delta.text
            return delta
        before = self.text if self._seam.joined else self._seam.sent.text
        if piece := self._seam.feed(delta.text):
            self.text = before + piece
        return replace(delta, text=piece)

    def _call(self, asked: ToolCalls) -> None:
        self._watch.come()
        self.tool_calls += asked.calls

    def _done(self, asked: Asked, model: ModelInfo, done: Done) -> None:
        self._watch.usage = done.usage
        self.finish_reason = done.finish_reason
        if done.usage.prompt_tokens:
            self._learn(asked, model, done.usage.prompt_tokens)

    def _learn(self, asked: Asked, model: ModelInfo, exact: int) -> None:
        for message, tokens in self._history.learn(asked.prompt, model.id, exact, asked.estimate):
            self._chat.estimator.learn(model.id, message.text, tokens)
            if self._seam is None or message is not self._seam.sent:  # of that it is a part
                self.counted[message.id] = message

    def _close(self, outcome: Outcome) -> None:
        """What was written becomes the answer in the history, however the turn ended; metrics and log."""
        usage = self._watch.usage
        # A name that nobody knows is a program's own text.
        model_id = self.model.id if self.model else "-"
        tokens: dict[str, int] = {}
        # With reasoning or calls in it, the engine's count says nothing about the answer alone.
        if usage and usage.reply_tokens and not self.reasoning and not self.tool_calls:
            tokens[model_id] = usage.reply_tokens
        if self._seam is not None and not self._seam.joined:
            self.answer = self.begun
        elif self.text:
            if self._seam is not None:
                before = self._seam.sent.tokens
                tokens = {name: before[name] + count for name, count in tokens.items() if name in before}
            self.answer = StoredMessage(self.answer_id, readable(self.text), tokens, "assistant")
            self._history.answer(self.question.id, self.answer)
        self.metrics = self._watch.metrics(
            outcome,
            sent=self._prompt.window.tokens if self._prompt else 0,
            characters=len(self.came),
            context_length=self._chat.catalog.context_length(self.model) if self.model else 0,
        )
        self._chat.on_end(
            Ended(
                self.asker,
                self.model,
                self.question.text,
                self.came,
                self.metrics,
                self.left_out,
                self.error,
                self.newly_left_out,
                self._watch.pauses,
            )
        )
        code = f" {self.error.code}" if self.error else ""
        log.info(
            "CHAT %s %s%s %s",
            model_id,
            outcome,
            code,
            self.metrics.summary(),
            extra={"model": model_id, "source": self.asker.source} | self.metrics.as_dict(),
        )
