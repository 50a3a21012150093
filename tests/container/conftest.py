"""The image, built once, and containers of it that are removed when their test ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from app.settings import ROOT
from tests.container.docker import IMAGE, Container, build, build_ollama, docker, missing, run_container

Run = Callable[..., Container]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, with a stand-in for Ollama."""
    reason = missing()
    if reason is not None and os.environ.get("REQUIRE_DOCKER"):
        pytest.fail(f"these tests have to run here: {reason}")
    if reason is not None:
        pytest.skip(f"{reason}; see https://docs.docker.com/engine/install/")
    build_ollama(tmp_path_factory.mktemp("ollama"))
    build(ROOT, "--tag", IMAGE)
    return IMAGE


@pytest.fixture
def run(image: str) -> Iterator[Run]:
    """`run(*options, publish=True, VARIABLE=value...)`: a container; the page's port is published to a free one."""
    started: list[str] = []

    def start(*options: str, publish: bool = True, **variables: str) -> Container:
        container = run_container(image, *options, publish=publish, **variables)
        started.append(container.id)
        return container

    yield start
    for container in started:
        docker("rm", "--force", "--volumes", container, check=False)


@pytest.fixture
def volume(image: str) -> Iterator[str]:
    """A new, empty volume."""
    name = f"chainlit-ollama-test-{uuid4().hex[:8]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
