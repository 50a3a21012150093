"""A measured figure, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One row.

    Attributes:
        what: was measured.
        value: in words, with its unit; of several measurements the median.
        goal: what it should be.
        reached: whether it is; None where it could not be measured.
    """

    what: str
    value: str
    goal: str
    reached: bool | None


def skipped(what: str, reason: str, goal: str) -> Figure:
    """A figure that cannot be measured on this machine."""
    return Figure(what, f"not measured: {reason}", goal, None)


def table(figures: Sequence[Figure]) -> str:
    """As Markdown."""
    signs = {True: "yes", False: "**no**", None: "-"}
    rows = [f"| {f.what} | {f.value} | {f.goal} | {signs[f.reached]} |" for f in figures]
    return "\n".join(["| what | median | goal | reached |", "| --- | --- | --- | --- |", *rows])
