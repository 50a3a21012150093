"""The queue that nobody can do better than: first come, first served, and no time lost between two."""

from __future__ import annotations

from collections.abc import Sequence


def ideal_waits(requests: Sequence[tuple[float, float]], max_waiting: int) -> list[float | None]:
    """How long each would wait for one server; None: it would be turned away.

    Args:
        requests: when each comes and how long it is served, in seconds; in the order of their coming.
        max_waiting: how many may wait.
    """
    waits: list[float | None] = []
    starts: list[float] = []
    free_at = 0.0
    for at, service in requests:
        if sum(start > at for start in starts) >= max_waiting and free_at > at:
            waits.append(None)
            continue
        start = max(at, free_at)
        starts.append(start)
        free_at = start + service
        waits.append(start - at)
    return waits
