"""What several unit tests need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from app.engines.ollama import OllamaEngine
from app.settings import Settings, variable_names
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


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of ours is set, in the environment or by a file."""
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        for name in variable_names(field):
            monkeypatch.delenv(name, raising=False)


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
