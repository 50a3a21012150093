"""What the load program makes of what a server says: whole replies, refusals, errors; and its figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bench.load.attempt import Attempt
from bench.load.crowd import Crowd
from bench.load.ideal import ideal_waits
from bench.load.plan import Plan
from bench.load.results import MEASURES, percentile
from tests.fakes.listener import Listener


async def run(plan: Plan) -> list[Attempt]:
    crowd = Crowd(plan)
    await crowd.run()
    return crowd.attempts


@asynccontextmanager
async def serving(answer: Callable[[], Response]) -> AsyncIterator[str]:
    """A server with /v1 that answers every request so."""

    async def models(_: Request) -> Response:
        return JSONResponse({"data": [{"id": "one"}]})

    async def chat(_: Request) -> Response:
        return answer()

    listener = Listener(
        Starlette(routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])]), 0
    )
    await listener.start()
    yield f"http://127.0.0.1:{listener.port}"
    await listener.stop()


def stream(*events: Any) -> Response:
    """Events of a stream; text as it stands."""

    async def lines() -> AsyncIterator[str]:
        for event in events:
            yield event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


PIECE = {"choices": [{"delta": {"content": "word"}}]}


@pytest.mark.parametrize(
    ("answer", "outcome", "problem"),
    [
        (lambda: stream(PIECE, PIECE, "data: [DONE]\n\n"), "replied", ""),
        (lambda: stream(PIECE, PIECE), "failed", "stopped before"),
        (lambda: stream(PIECE, {"error": {"message": "broke", "code": "engine_failed"}}), "failed", "broke"),
        (lambda: stream({"error": {"message": "late", "code": "waited_too_long"}}), "refused", "late"),
        (lambda: JSONResponse({"error": {"message": "full"}}, 429), "refused", "429: full"),
        (lambda: JSONResponse({"error": "bad"}, 500), "failed", "500: bad"),
        (lambda: Response("<html>", 502), "failed", "502: <html>"),
    ],
)
async def test_only_a_whole_reply_is_one(answer: Callable[[], Response], outcome: str, problem: str) -> None:
    async with serving(answer) as url:
        attempt = (await run(Plan(url, visitors=1, ways=("v1",), requests=1)))[0]
    assert attempt.outcome == outcome
    assert problem in attempt.problem


async def test_places_and_waiting_are_read_from_the_comments_of_a_stream() -> None:
    comments = (": waiting, 3 before you, about 40 s\n\n", ": waiting, 1 before you\n\n", ": reading\n\n")
    async with serving(lambda: stream(*comments, PIECE, "data: [DONE]\n\n")) as url:
        attempt = (await run(Plan(url, visitors=1, ways=("v1",), requests=1)))[0]
    assert attempt.place == 3
    assert 0 < attempt.told_to_wait < 1


async def test_a_request_without_an_end_has_failed_when_the_patience_is_over() -> None:
    async def silence() -> AsyncIterator[str]:
        yield ": working\n\n"
        await asyncio.sleep(5)

    async with serving(lambda: StreamingResponse(silence())) as url:
        attempt = (await run(Plan(url, visitors=1, ways=("v1",), requests=1, patience=0.2)))[0]
    assert attempt.outcome == "failed"
    assert "0.2 s" in attempt.problem


def test_arrivals_are_spread_and_the_same_for_the_same_seed() -> None:
    plan = Plan("", visitors=100, arrive=60)
    assert plan.arrivals() == plan.arrivals() == sorted(plan.arrivals())
    assert 0 <= plan.arrivals()[0] < 5
    assert 55 < plan.arrivals()[-1] <= 60
    assert set(Plan("", visitors=5).arrivals()) == {0}


def test_half_of_the_visitors_come_each_way_and_have_the_keys_in_turn() -> None:
    plan = Plan("", visitors=4, tokens=("x", "y"))
    assert [plan.way(number) for number in range(4)] == ["page", "v1", "page", "v1"]
    assert [plan.token(number) for number in (1, 3, 5)] == ["x", "y", "x"]


def test_percentiles_lie_between_the_values() -> None:
    assert percentile([5], 99) == 5
    assert percentile([1, 2, 3, 4, 5], 50) == 3
    assert percentile([0, 10], 95) == pytest.approx(9.5)


def test_the_percentiles_of_a_speed_are_those_of_the_slow_ones() -> None:
    seconds, speed = (next(one for one in MEASURES if one.name == name) for name in ("whole reply", "speed"))
    values = [float(number) for number in range(101)]
    assert seconds.figures(values) == [50, 95, 99, 100]
    assert speed.figures(values) == [50, 5, 1, 0]


def test_the_ideal_queue_serves_in_order_and_turns_away_who_finds_no_place() -> None:
    assert ideal_waits([(0, 10), (1, 10), (2, 10), (12, 5)], max_waiting=1) == [0, 9, None, 8]
    assert ideal_waits([(0, 1), (5, 1)], max_waiting=0) == [0, 0]
    assert ideal_waits([(0, 2), (1, 1)], max_waiting=0) == [0, None]
