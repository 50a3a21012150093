"""A real server, with a fake Ollama behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser import Chat
from tests.site import Program, fake_ollama, server


@dataclass
class World:
    """What a test talks to."""

    ollama: Program
    server: Program
    visit: Callable[..., Chat]


@pytest.fixture(scope="session")
def running(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Program]]:
    """A fake Ollama with two models and a server in front of it."""
    folder = tmp_path_factory.mktemp("site")
    with (
        fake_ollama(folder, "--models", "gemma2:2b,phi3:latest", "--thinker", "qwen3:0.6b", "--speedup", "4") as ollama,
        server(folder, OLLAMA_HOST=ollama.url, MODELS_CACHE_SECONDS="1") as site,
    ):
        yield ollama, site


@pytest.fixture
def world(running: tuple[Program, Program], visit: Callable[..., Chat]) -> World:
    ollama, site = running
    return World(ollama, site, visit)


@pytest.fixture
def chat(world: World) -> Chat:
    return world.visit(world.server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
