"""What several unit tests need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from app.engines.ollama import OllamaEngine
from app.storage.database import Database
from tests.postgres import Postgres

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


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/chat.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.url(await server.new_database())


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database of each kind."""
    database = Database(database_url)
    await database.open()
    yield database
    await database.close()
