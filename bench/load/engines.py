"""The load program against engines that really compute: the guide in a llama.cpp server, and in transformers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from bench.figures import Figure, skipped
from bench.load.crowd import Crowd
from bench.load.plan import Plan
from bench.load.results import results_of
from tests.servers import guide_as_gguf, llama_server
from tests.site import Program, free_port, server

_VISITORS: Final = 4
_REQUESTS: Final = 3
_GOAL: Final = "replies to all"


def measure(folder: Path) -> list[Figure]:
    """A short run against each; one that this machine lacks is left out with the reason."""
    return [_llama(folder), _transformers(folder)]


def _llama(folder: Path) -> Figure:
    what = f"{_VISITORS} visitors, the guide in llama-server"
    try:
        gguf = guide_as_gguf(folder)
        with llama_server(gguf, folder, "-c", "4096", "-np", "1") as engine, _site(folder, engine.url) as site:
            return _figure(what, site, "vllm/")
    except pytest.skip.Exception as reason:
        return skipped(what, str(reason), _GOAL)


def _transformers(folder: Path) -> Figure:
    what = f"{_VISITORS} visitors, the guide in transformers, no Ollama"
    if find_spec("torch") is None:
        return skipped(what, "torch is not installed", _GOAL)
    with _site(folder, "") as site:
        return _figure(what, site, "transformers/guide")


@contextmanager
def _site(folder: Path, url: str) -> Iterator[Program]:
    """A server without an Ollama."""
    nobody = f"http://127.0.0.1:{free_port()}"
    with server(folder, OLLAMA_HOST=nobody, VLLM_URL=url, MAX_WAITING_EACH=str(_VISITORS), MAX_TOKENS="64") as site:
        yield site


def _figure(what: str, site: Program, model: str) -> Figure:
    """Half of the visitors on the page, half over /v1, in long conversations."""
    known = [str(one["id"]) for one in site.get("/v1/models")["data"]]
    chosen = next((name for name in known if name.startswith(model)), None)
    if chosen is None:
        return Figure(what, f"no model {model} among {known}", _GOAL, False)
    plan = Plan(site.url, visitors=_VISITORS, requests=_REQUESTS, think=1, long=True, model=chosen)
    crowd = Crowd(plan)
    asyncio.run(crowd.run())
    results = results_of(crowd.attempts)
    replied = results.counts["replied"]
    words = f"{replied} of {len(crowd.attempts)} replies"
    if replied:
        first, speed = results.figures["first token"][0], results.figures["speed"][0]
        words += f"; first token {1e3 * first:.0f} ms, {speed:.0f} tok/s"
    for problem, count in results.problems.items():
        words += f"; {count} x {problem}"
    return Figure(what, words, _GOAL, replied == _VISITORS * _REQUESTS)
