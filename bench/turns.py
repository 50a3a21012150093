"""What a turn costs the app as the conversation grows."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Final

from app.chat import Chat
from app.engines.catalog import Catalog
from app.history import SessionHistory, StoredMessage
from app.prompting import ReplyOptions
from bench.figures import Figure
from tests.fakes.engine import ScriptedEngine

_EARLY, _LATE = 50, 5000
_AROUND: Final = 25
_GOAL: Final = 1.5


async def _costs() -> list[float]:
    """Seconds of this process' CPU for each turn; the engine answers at once."""
    chat = Chat(Catalog([ScriptedEngine()], max_age=3600))
    history = SessionHistory("bench")
    options = ReplyOptions("ollama/gemma2:2b")
    costs = []
    for number in range(_LATE + _AROUND):
        question = StoredMessage(f"q{number}", f"question {number} of an ordinary length, as visitors write them")
        began = time.process_time()
        async for _ in chat.turn(history, question, f"a{number}", options).events():
            pass
        costs.append(time.process_time() - began)
    return costs


def measure() -> list[Figure]:
    """The cost of turn 5,000 over that of turn 50."""
    costs = asyncio.run(_costs())
    early, late = (median(costs[turn - _AROUND : turn + _AROUND]) for turn in (_EARLY, _LATE))
    ratio = late / early
    value = f"{ratio:.2f} times ({1e6 * late:.0f} µs against {1e6 * early:.0f} µs)"
    return [Figure("cost of turn 5,000 over turn 50", value, f"at most {_GOAL} times", ratio <= _GOAL)]
