"""The browser and the database for the tests that need one, and the order of all."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.postgres import Postgres
from tests.redis import Redis

pytest_plugins = ["tests.browser"]

# How long an example takes says more of the machine than of the program.
settings.register_profile("no deadlines", deadline=None)
settings.load_profile("no deadlines")

# What a shell starts in the background ignores Ctrl-C, and so would all that tests start and press it for.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_BROWSER = [Path(__file__).parent / folder for folder in ("page", "container")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests with a browser last: Playwright's synchronous interface keeps an event loop running in this
    thread until the session ends, and asynchronous tests could not start their own beside it."""
    items.sort(key=lambda item: any(folder in item.path.parents for folder in _BROWSER))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """A running PostgreSQL; what databases a test makes in it are dropped in the end."""
    yield postgres_server
    postgres_server.start()
    postgres_server.drop_all()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def redis(redis_server: Redis) -> Redis:
    """A running Redis with nothing in it."""
    redis_server.stop()
    redis_server.start()
    return redis_server
