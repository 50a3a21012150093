"""The guide's training in its short form: too short for a good guide, long enough to see that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import load_config
from training.guide.corpus import held_out
from training.guide.evaluate import ask_alone, load
from training.guide.knowledge import FOREIGN

from .training_runs import trained_in_full

# The shares of questions that a training so short has to answer right, about the program and about all else. The guide
# itself does much better: see models/guide/README.md.
FLOOR_RIGHT = 0.35
FLOOR_HONEST = 0.6


@pytest.mark.timeout(1200)
def test_the_short_form_passes_its_floor(tmp_path: Path) -> None:
    run, outcome = trained_in_full(load_config("guide-short"), tmp_path)

    verdicts = ask_alone(load(run.model), held_out()[::4])

    assert outcome.step == outcome.steps
    right, honest = (
        [verdict.right for verdict in verdicts if (verdict.question.key == FOREIGN) is foreign]
        for foreign in (False, True)
    )
    assert sum(right) / len(right) >= FLOOR_RIGHT
    assert sum(honest) / len(honest) >= FLOOR_HONEST
