"""One reply of the fake Ollama: load, read, write, and the ways to fail at each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tests.fakes.answers import Measured, died, message_line, too_long
from tests.fakes.exchange import Exchange, Refused
from tests.fakes.machine import Machine, Pace, Runner, fitting
from tests.fakes.requests import ChatRequest
from tests.fakes.words import MID_STREAM, Fault, Reply, prompt_of, tokens_of


class _Broken(Exception):
    """The connection is to break here."""


async def complete(machine: Machine, asked: ChatRequest, reply: Reply, exchange: Exchange) -> None:
    """Answer a request in the model's slot; a request without messages only loads.

    Raises:
        Refused: with the fault's words, or because the prompt is too long.
    """
    async with machine.slot(asked.model.name) as waited:
        pace = Pace(machine)
        runner, load_seconds = await machine.load(asked, reply.fault, pace)
        if not asked.messages:
            await exchange.answer(message_line(asked.name, done_reason="load"))
            return
        measured = Measured(waited=waited, load=load_seconds)
        pieces = _pieces(machine, runner, asked, reply, measured, pace)
        try:
            await (_stream if asked.stream else _whole)(pieces, asked, reply, measured, exchange)
        except _Broken:
            await exchange.break_off()
        finally:
            await pieces.aclose()


async def _stream(
    pieces: AsyncGenerator[tuple[str, str, str], None],
    asked: ChatRequest,
    reply: Reply,
    measured: Measured,
    exchange: Exchange,
) -> None:
    async for content, thinking, reason in pieces:
        if not reason:
            await exchange.line(message_line(asked.name, content, thinking=thinking))
        elif not _ends_without_end(reply, reason):
            await exchange.line(message_line(asked.name, done_reason=reason, measured=measured))
    await exchange.end()


async def _whole(
    pieces: AsyncGenerator[tuple[str, str, str], None],
    asked: ChatRequest,
    reply: Reply,
    measured: Measured,
    exchange: Exchange,
) -> None:
    parts = [part async for part in pieces]
    content, thinking = "".join(part[0] for part in parts), "".join(part[1] for part in parts)
    reason = parts[-1][2]
    if _ends_without_end(reply, reason):
        await exchange.answer(message_line(asked.name, content, thinking=thinking))
    else:
        line = message_line(asked.name, content, thinking=thinking, done_reason=reason, measured=measured)
        await exchange.answer(line)


def _ends_without_end(reply: Reply, reason: str) -> bool:
    """Whether the guard against repetition struck, before any other end."""
    return reply.fault is Fault.REPEAT and reason == "stop"


async def _pieces(
    machine: Machine, runner: Runner, asked: ChatRequest, reply: Reply, measured: Measured, pace: Pace
) -> AsyncGenerator[tuple[str, str, str], None]:
    """Content, thinking and done_reason of each line; only the last has a reason. Fills `measured` on the way."""
    context = runner.options.num_ctx
    prompt = prompt_of(asked.messages)
    # llama-server refuses a prompt that would leave no room for a reply.
    if len(prompt) >= context:
        if not asked.truncate:
            raise too_long(len(prompt), context)
        prompt = fitting(asked.messages, context)
    if reply.fault is Fault.INTERNAL:
        raise Refused(500, reply.words)
    measured.prompt_tokens = len(prompt)
    measured.prompt = await machine.read(runner, prompt, pace, delay=reply.delay)
    if reply.fault is Fault.DIE_PREFILL:
        runner.alive = False
        raise died()
    if reply.fault is Fault.HANG:
        await asyncio.Event().wait()

    lines = [("", piece) for piece in reply.thinking] if asked.think else []
    lines += [(piece, "") for piece in reply.pieces]
    bound = asked.num_predict if asked.num_predict > 0 else 10 * context
    used, reason = len(prompt), "stop"
    for n, (content, thinking) in enumerate(lines):
        if n == bound or (used == context and not asked.shift):
            reason = "length"
            break
        if used == context:
            # The older half is thrown away and the rest read again, in silence.
            used -= used // 2
            runner.cache = runner.cache[-used:]
            measured.generation += used / machine.prompt_speed
            machine.tokens_read += used
            await pace.spend(used / machine.prompt_speed if reply.delay else 0)
        await pace.spend(1 / machine.speed if reply.delay else 0)
        if reply.fault in MID_STREAM and n == len(lines) - 1:
            await _strike(runner, reply)
        used += 1
        measured.reply_tokens += 1
        measured.generation += 1 / machine.speed
        runner.cache += tokens_of(content + thinking)
        yield content, thinking, ""
    yield "", "", reason


async def _strike(runner: Runner, reply: Reply) -> None:
    match reply.fault:
        case Fault.DIE:
            runner.alive = False
            raise died()
        case Fault.ERROR:
            raise Refused(500, reply.words)
        case Fault.CUT:
            raise _Broken
        case Fault.FREEZE:
            await asyncio.Event().wait()
