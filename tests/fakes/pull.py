"""How the fake Ollama fetches a model."""

from __future__ import annotations

import hashlib
from typing import Final

from tests.fakes.exchange import PLAIN_JSON, Exchange, Refused
from tests.fakes.machine import Machine, Pace
from tests.fakes.models import Library, full_name, model_named

_LAYERS: Final = (1_600_000_000, 29_000_000)  # bytes
_STEPS: Final = 10
_STEP_SECONDS: Final = 0.3


async def pull(
    machine: Machine, library: Library, exchange: Exchange, name: str, *, problem: str | None, streaming: bool
) -> None:
    """Answer /api/pull: a line for each step, or one answer at the end. The library has the model then.

    Args:
        problem: why it is to fail, in Ollama's words; None: it works.

    Raises:
        Refused: with these words.
    """
    if streaming:
        await exchange.line({"status": "pulling manifest"})
    if problem is not None:
        raise Refused(500, problem, content_type=PLAIN_JSON)
    pace = Pace(machine)
    for total in _LAYERS:
        digest = hashlib.sha256(f"{full_name(name)} {total}".encode()).hexdigest()
        for step in range(_STEPS + 1):
            await pace.spend(_STEP_SECONDS)
            line = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": total}
            if streaming:
                await exchange.line(line | ({"completed": total * step // _STEPS} if step else {}))
    library[name] = model_named(name)
    if not streaming:
        await exchange.answer({"status": "success"})
        return
    for status in ("verifying sha256 digest", "writing manifest", "success"):
        await exchange.line({"status": status})
    await exchange.end()


def no_network(name: str) -> str:
    """The words recorded without a network."""
    path, _, tag = full_name(name).rpartition(":")
    where = path if "/" in path else f"library/{path}"
    return (
        f'pull model manifest: Get "https://registry.ollama.ai/v2/{where}/manifests/{tag}": dial tcp: '
        "lookup registry.ollama.ai: no such host"
    )
