"""The guide's training in its short form: too short for a good guide, long enough to see that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import load_config
from training.guide.corpus import held_out
from training.guide.evaluate import ask_alone, load
from training.guide.knowledge import FOREIGN

from .training_runs import trained_in_full

# Chance would be right about one in a hundred.
FLOOR = 0.1


@pytest.mark.timeout(1200)
def test_the_short_form_passes_its_floor(tmp_path: Path) -> None:
    run, outcome = trained_in_full(load_config("guide-short"), tmp_path)

    questions = [question for question in held_out() if question.key != FOREIGN][::4]
    verdicts = ask_alone(load(run.model), questions)

    assert outcome.step == outcome.steps
    assert sum(verdict.right for verdict in verdicts) / len(verdicts) >= FLOOR
