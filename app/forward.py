"""Several raw prompts at once: generated together where the engine can, else as many at once as it has slots.

Each has its own end and its own error, also one that nobody has foreseen; the results stand in the order of the
prompts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import uuid4

from app.asker import Asker
from app.chat import Chat
from app.engines.base import BatchEngine, ChatMessage, Completion, CompletionRequest, Engine, FinishReason, ModelInfo
from app.errors import Busy, ChatError, NoModel, TooManyRequests
from app.history import SessionHistory, StoredMessage
from app.metrics import Ended, ReplyMetrics
from app.prompting import ReplyOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What came of one prompt.

    Attributes:
        text: what the model wrote; of a failure what had come until then.
        finish_reason: None: it failed.
        error: why it failed; None: it did not.
        model: which model wrote.
    """

    prompt: str
    text: str
    finish_reason: FinishReason | None
    error: ChatError | None
    model: ModelInfo
    metrics: ReplyMetrics


async def forward_many(chat: Chat, prompts: Sequence[str], options: ReplyOptions, asker: Asker) -> list[Forwarded]:
    """What a model writes after each of several prompts, which it reads as they stand.

    Cancelling it ends the engine's work.

    Args:
        chat: whose queue, limits and models count.
        prompts: any number; those beyond what is worked on at once wait, and let others in between.
        asker: who asks.
        options: the same for all; a system prompt has no place in raw text and is left aside.

    Raises:
        ChatError: nothing at all could be asked: there is no such model, it takes no raw text, the queue is full, the
            asker has asked too often, there are too many prompts.
    """
    chat.check_count(len(prompts))
    chat.check_open()
    if not options.model:
        raise NoModel
    model = await chat.catalog.find(options.model)
    engine = chat.catalog.engine_of(model)
    options = replace(options, model=model.id, system="", raw=True, strict=True)
    chat.check_features(engine, model, options)
    if isinstance(engine, BatchEngine):
        results = await _together(chat, engine, model, options, prompts, asker)
    else:
        results = await _each(chat, engine, model, options, prompts, asker)
    errors = [result.error for result in results]
    if errors and all(isinstance(error, Busy | TooManyRequests) for error in errors) and errors[0] is not None:
        raise errors[0]
    return results


async def _each(
    chat: Chat, engine: Engine, model: ModelInfo, options: ReplyOptions, prompts: Sequence[str], asker: Asker
) -> list[Forwarded]:
    """A turn for each. No more of them are in the queue than it serves, so that nobody is turned away for them."""
    gate = asyncio.Semaphore(chat.queue_of(engine).slots)

    async def one(prompt: str) -> Forwarded:
        turn = chat.turn(
            SessionHistory(uuid4().hex), StoredMessage(uuid4().hex, prompt), uuid4().hex, options, asker=asker
        )
        error: ChatError | None = None
        async with gate:
            try:
                async with aclosing(turn.events()) as events:
                    async for _ in events:
                        pass
            except ChatError as problem:
                error = problem
            except Exception as problem:
                log.exception("CHAT a reply of a batch broke off")
                error = ChatError(detail=type(problem).__name__)
        assert turn.metrics is not None
        reason = turn.finish_reason if error is None else None
        return Forwarded(prompt, turn.text, reason, error, turn.model or model, turn.metrics)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(prompt)) for prompt in prompts]
    return [task.result() for task in tasks]


async def _together(
    chat: Chat, engine: BatchEngine, model: ModelInfo, options: ReplyOptions, prompts: Sequence[str], asker: Asker
) -> list[Forwarded]:
    """As many together as the engine likes, in one slot; between two batches others have their turn."""
    began = chat.clock()
    results: dict[int, Forwarded] = {}
    texts: dict[int, str] = {}
    for number, prompt in enumerate(prompts):
        try:
            text = chat.checked(prompt)
            await chat.rates.count(asker)
            texts[number] = text
        except ChatError as problem:
            results[number] = _result(chat, model, prompt, problem, began, began)
    try:
        # Those of like length together: the less there is to pad.
        order = sorted(texts, key=lambda number: len(texts[number]))
        for first in range(0, len(order), engine.batch):
            some = order[first : first + engine.batch]
            admitted = began
            outcomes: Sequence[Completion | ChatError]
            try:
                chat.check_open()
                read = [texts[number] for number in some]
                expected = chat.expected(engine, model, read, options.generation.max_tokens)
                async with chat.slot(engine, asker, expected):
                    admitted = chat.clock()
                    context = chat.catalog.context_length(model)
                    outcomes = await engine.complete_batch(
                        [
                            CompletionRequest(
                                model.name, (ChatMessage("user", text),), options.generation, context, raw=True
                            )
                            for text in read
                        ]
                    )
            except ChatError as problem:
                outcomes = [problem] * len(some)
            except Exception as problem:
                log.exception("CHAT replies of a batch broke off")
                outcomes = [ChatError(detail=type(problem).__name__)] * len(some)
            for number, outcome in zip(some, outcomes, strict=True):
                results[number] = _result(chat, model, prompts[number], outcome, began, admitted)
    finally:
        for number, prompt in enumerate(prompts):
            ended = results.get(number) or _result(chat, model, prompt, None, began, chat.clock())
            chat.on_end(Ended(asker, model, prompt, ended.text, ended.metrics, error=ended.error))
    failed = sum(result.error is not None for result in results.values())
    log.info("CHAT %s batch of %d, %d failed, %.2f s", model.id, len(prompts), failed, chat.clock() - began)
    return [results[number] for number in range(len(prompts))]


def _result(
    chat: Chat, model: ModelInfo, prompt: str, outcome: Completion | ChatError | None, began: float, admitted: float
) -> Forwarded:
    """`outcome`: None: it was stopped before it came to one. `began`, `admitted`: when the whole was asked for, and
    when this prompt's batch had its turn."""
    completion = outcome if isinstance(outcome, Completion) else None
    usage = completion.done.usage if completion else None
    reply = (usage.reply_tokens if usage else None) or 0
    metrics = ReplyMetrics(
        outcome="finished" if completion else "failed" if outcome else "stopped",
        total_seconds=chat.clock() - began,
        queue_seconds=admitted - began,
        first_token_seconds=None,
        load_seconds=usage.load_seconds if usage else 0.0,
        prompt_seconds=usage.prompt_seconds if usage else 0.0,
        generation_seconds=usage.generation_seconds if usage else 0.0,
        prompt_tokens=usage.prompt_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        reply_tokens=reply,
        estimated=False,
        characters=len(completion.text) if completion else 0,
        context_used=((usage.prompt_tokens if usage else None) or 0) + reply,
        context_length=chat.catalog.context_length(model),
    )
    if completion is None:
        return Forwarded(prompt, "", None, outcome if isinstance(outcome, ChatError) else None, model, metrics)
    return Forwarded(prompt, completion.text, completion.done.finish_reason, None, model, metrics)
