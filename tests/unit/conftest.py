"""What several unit tests need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.engines.ollama import OllamaEngine

Connect = Callable[..., OllamaEngine]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes Ollama engines, with the arguments of theirs, and closes them in the end."""
    async with AsyncExitStack() as stack:

        def make(url: str, **arguments: Any) -> OllamaEngine:
            engine = OllamaEngine(url, **arguments)
            stack.push_async_callback(engine.close)
            return engine

        yield make
