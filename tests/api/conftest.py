"""Our server with a fake Ollama behind it, as programs meet them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.site import Program, fake_ollama, server

# One that only chats, one that thinks and uses functions, one that only embeds.
MODELS = "gemma2:2b,qwen3:4b,bge-m3"


@dataclass
class Site:
    """The server and its engine."""

    program: Program
    ollama: Program

    @property
    def url(self) -> str:
        return f"{self.program.url}/v1"

    def post(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """A request with `gemma2:2b` where no model is said."""
        return httpx.post(
            self.url + path, json={"model": "gemma2:2b"} | body, headers=headers, timeout=60, trust_env=False
        )

    def chat(self, text: str, **body: Any) -> httpx.Response:
        """A question without a conversation."""
        return self.post("/chat/completions", messages=[{"role": "user", "content": text}], **body)

    def asked(self) -> dict[str, Any]:
        """The body of the last request that reached the engine."""
        found: dict[str, Any] = self.ollama.get("/_fake/state")["requests"][-1]
        return found


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("api")
    with (
        fake_ollama(folder, "--models", MODELS, "--speedup", "10000") as ollama,
        server(
            folder,
            OLLAMA_HOST=ollama.url,
            MODELS="gemma2:2b",
            MODEL_ALIASES="fast=ollama/gemma2:2b",
            MAX_MESSAGE_BYTES="100000",
            MAX_WAITING_EACH="8",
        ) as program,
    ):
        yield Site(program, ollama)


@pytest.fixture(scope="session")
def slow_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with a small context, whose engine takes its time, and which says quickly that it waits."""
    folder = tmp_path_factory.mktemp("slow")
    with (
        fake_ollama(folder, "--models", MODELS, "--prompt-speed", "100000", "--load-seconds", "0") as ollama,
        server(
            folder,
            OLLAMA_HOST=ollama.url,
            NUM_CTX="512",
            STREAM_COMMENT_SECONDS="0.05",
            MAX_WAITING="1",
            MAX_WAITING_EACH="9",
            MAX_WAIT="6",
        ) as program,
    ):
        yield Site(program, ollama)
