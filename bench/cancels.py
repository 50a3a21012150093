"""What a storm of cancels leaves behind: replies broken off in all phases, on the page and in both APIs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from bench.figures import Figure
from tests.site import fake_ollama, server
from tests.storms import Storm

_CANCELS: Final = 500
_WARM_UP: Final = 500
# Faster than two cores, so that a storm takes half a minute; a batch of 64 tokens is read in 0.4 s.
_FASTER: Final = ("--speedup", "3", "--thinker", "qwen3:0.6b")


def measure() -> list[Figure]:
    """Slots, tasks and memory after the storm, and how soon the engine is idle."""
    with tempfile.TemporaryDirectory() as name, fake_ollama(Path(name), *_FASTER) as ollama:
        folder = Path(name)
        with server(folder, OLLAMA_HOST=ollama.url, AWAY_SECONDS="0", LOG_LEVEL="WARNING") as site:
            storm = Storm(site, ollama)
            usual = storm.rest()
            storm.blow(_WARM_UP, seed=1)
            storm.seconds_to_idle()
            before = storm.rest(usual.tasks)
            storm.blow(_CANCELS, seed=2)
            idle = storm.seconds_to_idle()
            after = storm.rest(before.tasks)
            engines = site.get("/debug/tasks")["engines"].values()
    lost = sum(engine["serving"] + engine["waiting"] for engine in engines)
    left = (after.tasks - before.tasks).total()
    grown = (after.memory - before.memory) / 1e6
    what = f"{_CANCELS} random cancels"
    return [
        Figure(f"{what}: slots lost", str(lost), "0", lost == 0),
        Figure(f"{what}: tasks left", str(left), "0", left == 0),
        Figure(f"{what}: seconds until the engine is idle", f"{idle:.1f} s", "under 2 s", idle < 2),
        Figure(f"{what}: memory more than before", f"{grown:.1f} MB", "under 5 MB", grown < 5),
    ]
