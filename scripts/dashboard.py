"""Writes Grafana's dashboard: python -m scripts.dashboard

What it shows stands here; deploy/grafana/dashboards/chat.json is made of it, and a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.settings import ROOT

FILE: Final = ROOT / "deploy" / "grafana" / "dashboards" / "chat.json"
_SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
_WIDTH: Final = 24
_WORDS_HEIGHT: Final = 2
_P: Final = "chainlit_ollama_"
# Grafana's own: at least four scrapes long, so that a rate has something to be made of.
_RATE: Final = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Query:
    """A line of a panel: an expression of Prometheus, and what it is called there."""

    expression: str
    name: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        words: what it means, in a line; stands under it.
        unit: Grafana's name of it.
        single: a number in place of lines over time.
        good: with `single`: smallest value that is green; less is red. None: no colours.
        most: with `single`: largest value that is green; more is red.
    """

    title: str
    words: str
    queries: Sequence[Query]
    unit: str = "short"
    single: bool = False
    good: float | None = None
    most: float | None = None


def _quantiles(series: str) -> list[Query]:
    buckets = f"sum by (le) (rate({_P}{series}_bucket{_RATE}))"
    return [Query(f"histogram_quantile({q}, {buckets})", f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)]


def _mean(series: str, by: str) -> str:
    total, count = (f"sum by ({by}) (rate({_P}{series}_{part}{_RATE}))" for part in ("sum", "count"))
    return f"{total} / {count}"


NOW: Final = (
    Panel(
        "Engine",
        "1: it answers. 0: nobody gets a reply from it.",
        [Query(f"min by (engine) ({_P}engine_up)", "{{engine}}")],
        single=True,
        good=1,
    ),
    Panel(
        "Database",
        "1: it takes writes. 0: what is said waits in memory. No data: none is kept (HISTORY=off).",
        [Query(f"min({_P}database_up)", "up")],
        single=True,
        good=1,
    ),
    Panel("Open pages", "Browsers that have the chat open.", [Query(f"sum({_P}open_pages)", "pages")], single=True),
    Panel(
        "Waiting now",
        "Who waits for a slot at this moment.",
        [Query(f"sum({_P}num_requests_waiting)", "waiting")],
        single=True,
        most=5,
    ),
    Panel(
        "Models in memory",
        "0: the next one to ask waits until one is loaded.",
        [Query(f"sum by (engine) ({_P}models_loaded)", "{{engine}}")],
        single=True,
    ),
    Panel(
        "Alerts",
        "How many fire; the list below names them.",
        [Query('count(ALERTS{alertstate="firing"}) or vector(0)', "firing")],
        single=True,
        most=0,
    ),
)

ROWS: Final[Sequence[tuple[str, Sequence[Panel]]]] = (
    (
        "Traffic",
        (
            Panel(
                "Replies a minute, by who asks",
                "page: people. v1 and api: programs. How much the chat is used.",
                [Query(f"60 * sum by (source) (rate({_P}requests_total{_RATE}))", "{{source}}")],
            ),
            Panel(
                "Replies a minute, by how they ended",
                "stopped is a visitor's own wish; failed should stay near 0.",
                [Query(f"60 * sum by (outcome) (rate({_P}requests_total{_RATE}))", "{{outcome}}")],
            ),
            Panel(
                "HTTP requests a second",
                "All requests by their status. 5xx: something is broken; 429: somebody asks too often.",
                [Query(f"sum by (status) (rate(http_requests_total{_RATE}))", "{{status}}")],
                "reqps",
            ),
        ),
    ),
    (
        "Waiting",
        (
            Panel(
                "Waiting for a slot",
                "p95: one in twenty waits longer. It grows when more people ask than the engine can serve.",
                _quantiles("request_queue_time_seconds"),
                "s",
            ),
            Panel(
                "Slots and queue",
                "All slots busy and a queue above 0 for long: more SLOTS, a smaller model or a larger machine.",
                [
                    Query(f"sum by (engine) ({_P}num_requests_running)", "{{engine}} replying"),
                    Query(f"sum by (engine) ({_P}num_requests_waiting)", "{{engine}} waiting"),
                    Query(f"sum by (engine) ({_P}slots)", "{{engine}} slots"),
                ],
            ),
            Panel(
                "First token",
                "From the question to the first word: what a visitor feels. Waiting, loading and reading are in it.",
                _quantiles("time_to_first_token_seconds"),
                "s",
            ),
        ),
    ),
    (
        "Speed",
        (
            Panel(
                "Tokens a second of a reply, by model",
                "How fast a reply appears. People read about 5 a second; below that they wait for words.",
                [Query(_mean("request_generation_tokens_per_second", "model"), "{{model}}")],
            ),
            Panel(
                "Pause between two pieces",
                "p99 far above p50: replies stutter. A prompt is read in between, or the machine does something else.",
                _quantiles("inter_token_latency_seconds"),
                "s",
            ),
            Panel(
                "Tokens a second in all, by model",
                "What the machine does: written, and read of prompts.",
                [
                    Query(f"sum by (model) (rate({_P}generation_tokens_total{_RATE}))", "{{model}} written"),
                    Query(f"sum by (model) (rate({_P}prompt_tokens_total{_RATE}))", "{{model}} read"),
                ],
            ),
            Panel(
                "Context cuts an hour, by model",
                "How often older messages left; /dashboard counts the replies after that. Many: raise NUM_CTX.",
                [
                    Query(f"sum by (model) (increase({_P}context_cuts_total[1h]))", "{{model}}"),
                ],
            ),
        ),
    ),
    (
        "Errors and storage",
        (
            Panel(
                "Errors an hour, by code",
                "Why replies failed. engine_unreachable: Ollama is away; out_of_memory: the model is too large.",
                [Query(f"sum by (code) (increase({_P}request_errors_total[1h])) > 0 or vector(0)", "{{code}}")],
            ),
            Panel(
                "Share of replies that failed",
                "Of all that were asked for, those of which nothing or only a part came.",
                [
                    Query(
                        f'sum(rate({_P}requests_total{{outcome="failed"}}{_RATE}))'
                        f" / sum(rate({_P}requests_total{_RATE}))",
                        "failed",
                    )
                ],
                "percentunit",
            ),
            Panel(
                "Writes that wait, and that were lost",
                "Above 0: the database is away or full. Lost: parts of conversations were not kept.",
                [
                    Query(f"sum({_P}unsaved_writes)", "waiting"),
                    Query(f"sum(increase({_P}lost_writes_total[1h]))", "lost in an hour"),
                ],
            ),
        ),
    ),
    (
        "Memory and disk",
        (
            Panel(
                "Memory in use",
                "Of the machine and, where it is limited, the container. Near 100 % the system ends the model.",
                [Query(f"{_P}memory_used_bytes / {_P}memory_size_bytes", "{{scope}}")],
                "percentunit",
            ),
            Panel(
                "Memory of the chat's own process",
                "Without the model. It should stay about the same from day to day.",
                [Query('process_resident_memory_bytes{job="chat"}', "resident")],
                "bytes",
            ),
            Panel(
                "Free on the disk with the data",
                "At 0 nothing is kept. docker system prune frees what no container uses.",
                [Query(f"{_P}disk_free_bytes", "free"), Query(f"{_P}disk_size_bytes", "size")],
                "bytes",
            ),
        ),
    ),
)


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _colours(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "text", "value": None}]
    if panel.good is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.good}]
    elif panel.most is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.most + 1}]
    return {"mode": "absolute", "steps": steps}


def _drawn(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    own: dict[str, Any] = {"unit": panel.unit, "min": 0}
    options: dict[str, Any] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if panel.single:
        own["thresholds"] = _colours(panel)
        options = {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    else:
        own["custom"] = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "auto"}
    return {
        "type": "stat" if panel.single else "timeseries",
        "title": panel.title,
        "description": panel.words,
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": own, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": query.expression,
                "legendFormat": query.name,
            }
            for number, query in enumerate(panel.queries)
        ],
    }


def _words(text: str, place: dict[str, int]) -> dict[str, Any]:
    options = {"mode": "markdown", "content": text}
    return {"type": "text", "title": "", "transparent": True, "gridPos": place, "options": options}


def _side_by_side(panels: Sequence[Panel], y: int, height: int) -> Iterator[dict[str, Any]]:
    width = _WIDTH // len(panels)
    for number, panel in enumerate(panels):
        yield _drawn(panel, _place(number * width, y, width, height))
        yield _words(panel.words, _place(number * width, y + height, width, _WORDS_HEIGHT))


def _panels() -> Iterator[dict[str, Any]]:
    height = 4
    yield from _side_by_side(NOW, 0, height)
    y = height + _WORDS_HEIGHT
    words = "What deploy/prometheus/alerts.yml watches, as far as it fires or is about to. Empty is good."
    yield {
        "type": "alertlist",
        "title": "Alerts",
        "description": words,
        "gridPos": _place(0, y, _WIDTH, 5),
        "options": {
            "viewMode": "list",
            "groupMode": "default",
            "datasource": "Prometheus",
            "maxItems": 20,
            "sortOrder": 3,
            "stateFilter": {"firing": True, "pending": True, "noData": False, "normal": False, "error": True},
        },
    }
    yield _words(words, _place(0, y + 5, _WIDTH, _WORDS_HEIGHT))
    y += 5 + _WORDS_HEIGHT
    for title, panels in ROWS:
        yield {"type": "row", "title": title, "collapsed": False, "gridPos": _place(0, y, _WIDTH, 1), "panels": []}
        yield from _side_by_side(panels, y + 1, 8)
        y += 1 + 8 + _WORDS_HEIGHT


def dashboard() -> dict[str, Any]:
    """As Grafana reads it from a file: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/"""
    return {
        "uid": "chat",
        "title": "Chat",
        "description": "Who asks, how long they wait, how fast the model writes, and what is left of the machine.",
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": []},
        "annotations": {"list": []},
        "panels": [panel | {"id": number} for number, panel in enumerate(_panels(), 1)],
    }


def text() -> str:
    """The file as it should be."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
