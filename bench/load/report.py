"""The results as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.load.attempt import Attempt
from bench.load.plan import Plan
from bench.load.results import MEASURES, OUTCOMES, SHARES, Results, by_way

_MOST_PROBLEMS: Final = 5
_LONGEST_PROBLEM: Final = 160


def rows_of(results: Results) -> list[list[str]]:
    """The measures' rows, their head first."""
    rows = [["", *(f"p{share}" for share in SHARES), "worst", ""]]
    for measure in MEASURES:
        if measure.name in results.figures:
            rows.append([measure.name, *(f"{value:.2f}" for value in results.figures[measure.name]), measure.unit])
    return rows


def counted(results: Results) -> str:
    """How many attempts of each outcome there are, in a line."""
    return f"{sum(results.counts.values())} requests: " + ", ".join(
        f"{results.counts[outcome]} {outcome}"
        for outcome in OUTCOMES
        if results.counts[outcome] or outcome == "replied"
    )


def table(attempts: Sequence[Attempt], seconds: float) -> str:
    """For a terminal."""
    parts = []
    for name, results in by_way(attempts).items():
        lines = [f"{name}: {counted(results)}"]
        rows = rows_of(results)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows if len(rows) > 1 else []:
            cells = (cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
            lines.append(f"  {row[0].ljust(widths[0])}  {'  '.join(cells)}  {row[-1]}".rstrip())
        parts.append("\n".join(lines))
    everything = by_way(attempts)["all"]
    parts.append("\n".join([_verdict(everything, seconds), *_problems(everything)]))
    return "\n\n".join(parts)


def _verdict(results: Results, seconds: float) -> str:
    tokens = f"{results.counts['replied'] / seconds * 60:.1f} replies a minute" if seconds else "no time passed"
    lost = results.counts["failed"] + results.counts["unfinished"]
    ended = "nobody is lost" if results.nobody_lost else f"{lost} got neither a reply nor a clear refusal"
    return f"{seconds:.1f} s, {tokens}; {ended}"


def _problems(results: Results) -> list[str]:
    lines = [
        f"  {count} x {words[:_LONGEST_PROBLEM]}" for words, count in list(results.problems.items())[:_MOST_PROBLEMS]
    ]
    more = len(results.problems) - _MOST_PROBLEMS
    return [*lines, f"  and {more} more kinds"] if more > 0 else lines


def facts_of(plan: Plan) -> dict[str, Any]:
    """What was done, without keys and passwords."""
    return {
        "url": plan.url,
        "visitors": plan.visitors,
        "over": " and ".join(plan.ways),
        "requests": plan.requests,
        "duration": plan.duration,
        "think": plan.think,
        "arrive": plan.arrive,
        "long": plan.long,
        "model": plan.model,
        "seed": plan.seed,
    }


def write_json(path: Path, plan: Plan, attempts: Sequence[Attempt], seconds: float) -> None:
    """The plan, the results and each attempt."""
    found = {
        "plan": facts_of(plan),
        "seconds": seconds,
        "results": {name: results.as_dict() for name, results in by_way(attempts).items()},
        "attempts": [attempt.as_dict() for attempt in attempts],
    }
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
