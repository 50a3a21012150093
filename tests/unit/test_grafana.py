"""Grafana's dashboard, as it is written and as it is meant."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

from prometheus_client import CollectorRegistry

from app.series import ReplySeries
from scripts.dashboard import FILE, NOW, ROWS, text

Panel = dict[str, Any]


def panels() -> list[Panel]:
    found: list[Panel] = json.loads(FILE.read_text(encoding="utf-8"))["panels"]
    return found


def test_the_file_is_what_the_script_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "python -m scripts.dashboard"


def test_under_each_panel_stands_what_it_means() -> None:
    found = panels()
    said = {(words["gridPos"]["x"], words["gridPos"]["y"]): words for words in found if words["type"] == "text"}
    drawn = [panel for panel in found if panel["type"] not in ("text", "row")]
    for panel in drawn:
        place = panel["gridPos"]
        words = said.pop((place["x"], place["y"] + place["h"]))
        assert words["options"]["content"] == panel["description"]
        assert words["gridPos"]["w"] == place["w"]
    assert not said
    assert len(drawn) == len(NOW) + 1 + sum(len(row) for _, row in ROWS)


def test_no_panel_lies_over_another_and_each_has_a_number_of_its_own() -> None:
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)

    def fields(panel: Panel) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        return {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }

    assert all(fields(one).isdisjoint(fields(other)) for one, other in combinations(found, 2))
    assert max(x for panel in found for x, _ in fields(panel)) == 23


def test_every_histogram_of_replies_that_is_drawn_is_one_that_there_is() -> None:
    """A name that is written wrongly shows nothing, with a real Prometheus, but only where one is."""
    registry = CollectorRegistry()
    ReplySeries(registry)
    known = {metric.name for metric in registry.collect()}
    drawn = set(re.findall(r"(chainlit_ollama_\w+)_bucket", text()))
    assert drawn
    assert drawn <= known
