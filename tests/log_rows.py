"""Rows of the log of requests, as an ordinary day leaves them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.storage.requests import RequestRow

GEMMA: Final = "gemma2:2b"
PHI: Final = "phi3:latest"


def row(at: datetime, **values: Any) -> RequestRow:
    """A reply of gemma2:2b that took 5 s, of them 1 s until the first token: 40 tokens at 10 in a second."""
    usual: dict[str, Any] = {
        "request_id": "r",
        "timestamp": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "source": "page",
        "client": "visitor-secret",
        "model_name": GEMMA,
        "engine": "ollama",
        "prompt_tokens": 100,
        "cached_tokens": 0,
        "response_tokens": 40,
        "time_to_first_token_ms": 1000.0,
        "processing_time_ms": 5000.0,
        "queue_ms": 0.0,
        "load_ms": 0.0,
        "prompt_ms": 900.0,
        "generation_ms": 4000.0,
        "left_out": 0,
        "status": "finished",
        "error": None,
    }
    return RequestRow(**usual | values)


def busy_week(until: datetime) -> Iterator[RequestRow]:
    """A small office: quiet nights, two models, some that stop, few failures; the oldest first."""
    for hour in reversed(range(7 * 24)):
        begins = until - timedelta(hours=hour)
        busy = max(0.0, math.sin((begins.hour - 6) / 13 * math.pi))
        count = round(18 * busy) + begins.day % 3
        for number in range(count):
            wait = 200.0 * max(0, number - 8) * busy
            first = 600.0 + 90 * (number % 7) + wait + (3500 if number == 11 else 0)
            small = number % 4 == 0
            tokens = 60 + 17 * (number % 9)
            speed = (6.4 if small else 9.8) + math.sin(hour / 5 + number) * 0.7
            status = "failed" if number == 12 and hour % 5 == 0 else "stopped" if number % 7 == 6 else "finished"
            yield row(
                begins - timedelta(minutes=number % 5, seconds=number),
                model_name=PHI if small else GEMMA,
                status=status,
                error="engine_failed" if status == "failed" else None,
                prompt_tokens=250 + 60 * (number % 11),
                response_tokens=tokens,
                queue_ms=wait,
                time_to_first_token_ms=None if status == "failed" else first,
                generation_ms=tokens / speed * 1000,
                left_out=int(number % 10 == 9),
            )
