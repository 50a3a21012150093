"""One reply of the fake Ollama: load, read, write, and the ways to fail at each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from tests.fakes.answers import Measured, Piece, died, message_line, response_line, too_long
from tests.fakes.exchange import Exchange, Refused
from tests.fakes.machine import Machine, Pace, Runner, fitting
from tests.fakes.requests import ChatRequest
from tests.fakes.words import MID_STREAM, Fault, Reply, tokens_of


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
            await exchange.answer(line_of(asked, Piece(reason="load")))
            return
        measured = Measured(waited=waited, load=load_seconds)
        pieces = _pieces(machine, runner, asked, reply, measured, pace)
        try:
            await (_stream if asked.stream else _whole)(pieces, asked, reply, measured, exchange)
        except _Broken:
            await exchange.break_off()
        finally:
            await pieces.aclose()
            seconds = measured.load + measured.prompt + measured.generation
            machine.served.append({"said": asked.messages[-1].get("content"), "seconds": seconds})


async def _stream(
    pieces: AsyncGenerator[Piece, None],
    asked: ChatRequest,
    reply: Reply,
    measured: Measured,
    exchange: Exchange,
) -> None:
    async for piece in pieces:
        if not piece.reason:
            await exchange.line(line_of(asked, piece))
        elif not _ends_without_end(reply, piece.reason):
            await exchange.line(line_of(asked, piece, measured))
    await exchange.end()


async def _whole(
    pieces: AsyncGenerator[Piece, None],
    asked: ChatRequest,
    reply: Reply,
    measured: Measured,
    exchange: Exchange,
) -> None:
    parts = [part async for part in pieces]
    whole = Piece(
        "".join(part.content for part in parts),
        "".join(part.thinking for part in parts),
        [call for part in parts for call in part.calls],
        parts[-1].reason,
    )
    if _ends_without_end(reply, whole.reason):
        await exchange.answer(line_of(asked, replace(whole, reason="")))
    else:
        await exchange.answer(line_of(asked, whole, measured))


def line_of(asked: ChatRequest, piece: Piece, measured: Measured | None = None) -> dict[str, Any]:
    """A line as the path that was asked writes it."""
    if asked.purpose == "chat":
        return message_line(asked.name, piece, measured)
    context = () if asked.raw or not asked.messages else range(len(asked.prompt()))
    return response_line(asked.name, piece, measured, context=context)


def _ends_without_end(reply: Reply, reason: str) -> bool:
    """Whether the guard against repetition struck, before any other end."""
    return reply.fault is Fault.REPEAT and reason == "stop"


async def _pieces(
    machine: Machine, runner: Runner, asked: ChatRequest, reply: Reply, measured: Measured, pace: Pace
) -> AsyncGenerator[Piece, None]:
    """What the lines hold; only the last has a reason. Fills `measured` on the way."""
    context = runner.options.num_ctx
    prompt = asked.prompt()
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

    lines = [Piece(thinking=piece) for piece in reply.thinking] if asked.think else []
    lines += [Piece(piece) for piece in stopped(reply.pieces, asked.stop)]
    lines += [Piece(calls=[call]) for call in reply.calls]
    bound = asked.num_predict if asked.num_predict > 0 else 10 * context
    used, reason = len(prompt), "stop"
    for n, line in enumerate(lines):
        if n == bound or (used == context and not asked.shift):
            reason = "length"
            break
        if used == context:
            # The older half is thrown away and the rest read again, in silence.
            used -= used // 2
            runner.caches.slot = runner.caches.slot[-used:]
            measured.generation += used / machine.prompt_speed
            machine.tokens_read += used
            await pace.spend(used / machine.prompt_speed if reply.delay else 0)
        await pace.spend(1 / machine.speed if reply.delay else 0)
        if reply.fault in MID_STREAM and n == len(lines) - 1:
            await _strike(runner, reply)
        used += 1
        measured.reply_tokens += 1
        measured.generation += 1 / machine.speed
        runner.caches.slot += tokens_of(line.content + line.thinking)
        yield line
    yield Piece(reason=reason)


def stopped(pieces: Sequence[str], stops: Sequence[str]) -> list[str]:
    """The pieces up to the first of the stop texts, wherever it begins and ends in them."""
    text = "".join(pieces)
    end = min((text.index(stop) for stop in stops if stop in text), default=len(text))
    kept = []
    for piece in pieces:
        kept.append(piece[:end])
        end -= len(kept[-1])
    return [piece for piece in kept if piece]


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
