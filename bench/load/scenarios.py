"""`python -m bench load`: the figures that the load program finds for us."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.figures import Figure
from bench.load import engines, idle, queues


def measure() -> list[Figure]:
    """The queue under load, a thousand idle pages, and real engines."""
    figures = []
    for part in (queues.measure, idle.measure, engines.measure):
        with tempfile.TemporaryDirectory() as folder:
            figures += part(Path(folder))
    return figures
