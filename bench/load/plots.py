"""The results as a page with plots that needs nothing from outside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from bench.load.attempt import Attempt, Outcome
from bench.load.plan import Plan
from bench.load.report import counted, facts_of, rows_of
from bench.load.results import OUTCOMES, by_way

_COLOURS: Final[dict[Outcome, str]] = {
    "replied": "#2a9d8f",
    "refused": "#e9a23b",
    "failed": "#c1121f",
    "unfinished": "#8d99ae",
}
_WAITING: Final = "#d9d9d9"
_WAYS: Final = {"page": "#33658a", "v1": "#b5651d"}
_CONFIG: Final = {"displaylogo": False, "responsive": True}
_HEAD: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; margin: .4rem 0 1.4rem; }}
td, th {{ padding: .2rem .9rem; text-align: right; border-bottom: 1px solid #ddd; }}
td:first-child {{ text-align: left; }}
</style><script>{script}</script></head><body>
"""


def write_html(path: Path, plan: Plan, attempts: Sequence[Attempt], seconds: float) -> None:
    """The tables and the plots."""
    title = f"Load on {plan.url}"
    facts = ", ".join(f"{name} {value}" for name, value in facts_of(plan).items() if value not in (None, ""))
    parts = [
        _HEAD.format(title=escape(title), script=get_plotlyjs()),
        f"<h1>{escape(title)}</h1><p>{escape(facts)}; {seconds:.1f} s</p>",
        _tables(attempts),
    ]
    figures = (_timeline(attempts), _busy(attempts, seconds), _shares(attempts), _speeds(attempts))
    parts += [figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG) for figure in figures]
    path.write_text("\n".join([*parts, "</body></html>\n"]), encoding="utf-8")


def _tables(attempts: Sequence[Attempt]) -> str:
    parts = []
    for name, results in by_way(attempts).items():
        head, *rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows_of(results))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        problems = "".join(f"<li>{count} × {escape(words)}</li>" for words, count in results.problems.items())
        parts.append(f"<h2>{name}: {counted(results)}</h2><table><tr>{head}</tr>{body}</table><ul>{problems}</ul>")
    return "\n".join(parts)


def _figure(title: str, across: str, up: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(title=title, template="plotly_white", xaxis_title=across, yaxis_title=up)
    return figure


def _timeline(attempts: Sequence[Attempt]) -> go.Figure:
    """Each request as a bar in its visitor's line: until the first token pale, then in the colour of its outcome."""
    figure = _figure("Requests", "seconds since the beginning", "visitor")
    figure.update_layout(barmode="overlay", height=max(360, min(1400, 120 + 9 * len({a.visitor for a in attempts}))))
    ended = [attempt for attempt in attempts if attempt.total is not None]
    silent = [attempt for attempt in ended if attempt.first_token]
    figure.add_bar(
        y=[attempt.visitor for attempt in silent],
        x=[attempt.first_token for attempt in silent],
        base=[attempt.sent_at for attempt in silent],
        orientation="h",
        marker_color=_WAITING,
        name="until the first token",
    )
    for outcome in OUTCOMES:
        found = [attempt for attempt in ended if attempt.outcome == outcome]
        if found:
            figure.add_bar(
                y=[attempt.visitor for attempt in found],
                x=[max((attempt.total or 0) - (attempt.first_token or 0), 0.05) for attempt in found],
                base=[attempt.sent_at + (attempt.first_token or 0) for attempt in found],
                orientation="h",
                marker_color=_COLOURS[outcome],
                name=outcome,
                hovertext=[attempt.problem or attempt.way for attempt in found],
            )
    return figure


def _busy(attempts: Sequence[Attempt], seconds: float) -> go.Figure:
    """How many wait for their first token, and how many are written to."""
    figure = _figure("At the same time", "seconds since the beginning", "requests")
    silent, written = [], []
    for attempt in attempts:
        end = seconds if attempt.ended_at is None else attempt.ended_at
        first = attempt.pieces[0] if attempt.pieces else end
        silent += [(attempt.sent_at, 1), (first, -1)]
        written += [(first, 1), (end, -1)] if attempt.pieces else []
    for name, steps, colour in (("no token yet", silent, _WAITING), ("being written", written, _COLOURS["replied"])):
        at, level, levels = [], 0, []
        for moment, step in sorted(steps):
            level += step
            at.append(moment)
            levels.append(level)
        figure.add_scatter(
            x=at, y=levels, mode="lines", line={"shape": "hv", "color": colour}, fill="tozeroy", name=name
        )
    return figure


def _shares(attempts: Sequence[Attempt]) -> go.Figure:
    """What share of the replies had begun, and ended, after so many seconds."""
    figure = _figure("Replies begun and ended", "seconds since the question", "per cent of the replies")
    for way, colour in _WAYS.items():
        replied = [attempt for attempt in attempts if attempt.way == way and attempt.outcome == "replied"]
        begun = sorted(attempt.first_token for attempt in replied if attempt.first_token is not None)
        ended = sorted(attempt.total for attempt in replied if attempt.total is not None)
        for name, values, dash in (("first token", begun, "solid"), ("whole", ended, "dot")):
            shares = [100 * (number + 1) / len(values) for number in range(len(values))]
            if values:
                line = {"shape": "hv", "color": colour, "dash": dash}
                figure.add_scatter(x=values, y=shares, mode="lines", line=line, name=f"{way}: {name}")
    return figure


def _speeds(attempts: Sequence[Attempt]) -> go.Figure:
    """Tokens per second of each reply over the time of its question."""
    figure = _figure("Speed of writing", "seconds since the beginning", "tokens per second")
    figure.update_yaxes(rangemode="tozero")
    for way, colour in _WAYS.items():
        found = [a for a in attempts if a.way == way and a.outcome == "replied" and a.speed is not None]
        if found:
            figure.add_scatter(
                x=[attempt.sent_at for attempt in found],
                y=[attempt.speed for attempt in found],
                mode="markers",
                marker={"color": colour},
                name=way,
            )
    return figure
