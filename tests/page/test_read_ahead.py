"""A conversation that is opened is read before anything is said in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.browser import PATIENCE, Chat
from tests.site import Program, fake_ollama, free_port, server

LONG = " ".join(f"word{n}" for n in range(400))


def ahead(ollama: Program) -> list[dict[str, Any]]:
    """What was asked only to be read."""
    return [body for body in ollama.get("/_fake/state")["requests"] if body.get("options", {}).get("num_predict") == 1]


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_old_conversation_is_read_as_soon_as_it_is_opened(folder: Path, visit: Callable[..., Chat]) -> None:
    with fake_ollama(folder, "--speedup", "200") as ollama:
        settings = {"PORT": str(free_port()), "OLLAMA_HOST": ollama.url}
        with server(folder, **settings) as site:
            chat = visit(site)
            chat.ask(f"!echo {LONG}")
            chat.page.wait_for_url("**/thread/*")
            assert ahead(ollama) == []
        # Another day: nobody knows what the engine holds of it.
        with server(folder, **settings) as site:
            chat.reload()
            chat.wait_for("word399")
            wait_for(lambda: ahead(ollama) and ahead(ollama)[-1]["messages"][-1]["content"] == "")
            wait_for(lambda: "read ahead" in site.text())
            texts = [message["content"] for message in ahead(ollama)[-1]["messages"]]
            assert texts == [f"!echo {LONG}", LONG, ""]
            before = ollama.get("/_fake/state")["tokens_read"]
            assert chat.ask("!words 3") == "the quick brown"
            assert ollama.get("/_fake/state")["tokens_read"] - before < 30
            metrics = {line.split()[0]: line.split()[1] for line in site_metrics(site) if not line.startswith("#")}
            assert float(metrics["chainlit_ollama_read_ahead_tokens_total"]) > 800
            assert float(metrics["chainlit_ollama_read_ahead_seconds_total"]) > 0


def site_metrics(site: Program) -> list[str]:
    """The lines of /metrics."""
    return httpx.get(site.url + "/metrics", timeout=10, trust_env=False).text.splitlines()
