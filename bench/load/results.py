"""What the attempts come to: how many there are of each outcome, and percentiles of their times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.load.attempt import Attempt, Outcome

SHARES: Final = (50, 95, 99)
# In the order in which they are shown.
OUTCOMES: Final[tuple[Outcome, ...]] = ("replied", "refused", "failed", "unfinished")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` per cent of them are, between two of them by their distance."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class Measure:
    """A kind of figure.

    Attributes:
        name: of it.
        unit: of it.
        of: its values in an attempt.
        more_is_better: as of a speed.
    """

    name: str
    unit: str
    of: Callable[[Attempt], Iterable[float]]
    more_is_better: bool = False

    def figures(self, values: Sequence[float]) -> list[float]:
        """What so many per cent of them are at least as good as, for each of SHARES; and the worst."""
        if self.more_is_better:
            return [*(percentile(values, 100 - share) for share in SHARES), min(values)]
        return [*(percentile(values, share) for share in SHARES), max(values)]


def _of_replies(value: Callable[[Attempt], float | None]) -> Callable[[Attempt], Iterable[float]]:
    def values(attempt: Attempt) -> Iterable[float]:
        found = value(attempt) if attempt.outcome == "replied" else None
        return () if found is None else (found,)

    return values


def _until_refused(attempt: Attempt) -> Iterable[float]:
    return (attempt.total,) if attempt.outcome == "refused" and attempt.total is not None else ()


MEASURES: Final = (
    Measure("told to wait", "s", _of_replies(lambda attempt: attempt.told_to_wait)),
    Measure("first token", "s", _of_replies(lambda attempt: attempt.first_token)),
    Measure("between pieces", "s", lambda attempt: attempt.gaps if attempt.outcome == "replied" else ()),
    Measure("whole reply", "s", _of_replies(lambda attempt: attempt.total)),
    Measure("speed", "tok/s", _of_replies(lambda attempt: attempt.speed), more_is_better=True),
    Measure("until refused", "s", _until_refused),
)


@dataclass(frozen=True, slots=True)
class Results:
    """Of some attempts.

    Attributes:
        counts: attempts of each outcome.
        figures: by the name of the measure, those of `Measure.figures`; without what was not measured.
        problems: what was said of those that were refused or failed, and how often.
    """

    counts: Mapping[Outcome, int]
    figures: Mapping[str, Sequence[float]]
    problems: Mapping[str, int]

    @property
    def nobody_lost(self) -> bool:
        """Whether each attempt ended in a reply or a clear refusal."""
        return not self.counts["failed"] and not self.counts["unfinished"]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = [*(f"p{share}" for share in SHARES), "worst"]
        return {
            "counts": dict(self.counts),
            "figures": {name: dict(zip(names, values, strict=True)) for name, values in self.figures.items()},
            "problems": dict(self.problems),
        }


def results_of(attempts: Sequence[Attempt]) -> Results:
    """The results of these attempts."""
    counts = Counter(attempt.outcome for attempt in attempts)
    figures = {}
    for measure in MEASURES:
        values = [value for attempt in attempts for value in measure.of(attempt)]
        if values:
            figures[measure.name] = measure.figures(values)
    problems = Counter(attempt.problem for attempt in attempts if attempt.problem)
    return Results({outcome: counts[outcome] for outcome in OUTCOMES}, figures, dict(problems.most_common()))


def by_way(attempts: Sequence[Attempt]) -> dict[str, Results]:
    """The results of all, and of each way where there are several."""
    ways = sorted({attempt.way for attempt in attempts})
    found = {"all": results_of(attempts)}
    if len(ways) > 1:
        found |= {way: results_of([attempt for attempt in attempts if attempt.way == way]) for way in ways}
    return found
