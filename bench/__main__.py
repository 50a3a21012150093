"""`python -m bench`: measure everything, print one table. Exit code 1 if a goal is missed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from bench import ahead, api, cancels, guide, page, storage, turns
from bench.figures import Figure, table
from bench.load import scenarios

_PARTS: tuple[tuple[str, Callable[[], list[Figure]]], ...] = (
    ("page", page.measure),
    ("api", api.measure),
    ("guide", guide.measure),
    ("turns", turns.measure),
    ("cancels", cancels.measure),
    ("storage", storage.measure),
    ("ahead", ahead.measure),
    ("load", scenarios.measure),
)


def main() -> None:
    chosen = set(sys.argv[1:]) or {name for name, _ in _PARTS}
    figures: list[Figure] = []
    for name, measure in _PARTS:
        if name in chosen:
            print(f"measuring {name} ...", file=sys.stderr)
            figures += measure()
    print(f"On {os.cpu_count()} cores:\n\n{table(figures)}")
    sys.exit(any(figure.reached is False for figure in figures))


if __name__ == "__main__":
    main()
