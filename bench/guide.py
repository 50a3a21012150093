"""The built-in guide in a long conversation, with the key-value cache kept from turn to turn and without."""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec
from statistics import median
from typing import Final

from app.engines.base import ChatMessage, CompletionRequest, Delta, GenerationOptions
from app.engines.local import LocalEngine
from app.settings import GUIDE_DIR
from bench.figures import Figure, skipped

_WHAT: Final = "guide, 20 turns: time to first token with kept cache"
_GOAL: Final = 5.0
_QUESTIONS: Final = (
    "how do I run it",
    "what is the temperature",
    "how do I choose a model",
    "why is it slow",
    "what is ollama",
)


async def _first_tokens(kept: bool) -> list[float]:
    """Seconds to the first token of each of 20 turns."""
    engine = LocalEngine(GUIDE_DIR, ())
    await engine.load("guide", 4096)
    messages: list[ChatMessage] = []
    seconds = []
    for turn in range(20):
        messages.append(ChatMessage("user", _QUESTIONS[turn % len(_QUESTIONS)]))
        options = GenerationOptions(temperature=0, max_tokens=80)
        request = CompletionRequest("guide", tuple(messages), options, 4096, "bench" if kept else None)
        began, text = time.perf_counter(), ""
        async for event in engine.complete(request):
            if isinstance(event, Delta):
                if not text:
                    seconds.append(time.perf_counter() - began)
                text += event.text
        messages.append(ChatMessage("assistant", text))
    await engine.close()
    return seconds


def measure() -> list[Figure]:
    """Time to first token with the cache, against without."""
    goal = f"at most 1/{_GOAL:.0f} of without"
    if find_spec("torch") is None:
        return [skipped(_WHAT, "torch is not installed", goal)]
    with_cache, without = (median(asyncio.run(_first_tokens(kept))) for kept in (True, False))
    value = f"{1e3 * with_cache:.0f} ms, without {1e3 * without:.0f} ms (1/{without / with_cache:.1f})"
    return [Figure(_WHAT, value, goal, without / with_cache >= _GOAL)]
