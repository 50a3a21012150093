"""The guide's training in its short form: too short for a good guide, long enough to see that it learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import load_config
from training.guide.corpus import held_out
from training.guide.evaluate import ask_alone, load

from .training_runs import trained_in_full

# Nats by token of what a training so short never saw; the first step has 8.4.
MOST_LOSS = 0.8
# The share of replies that are an answer which the guide was taught, word for word and in the question's language.
# Which of them answers a question is learnt later.
FLOOR = 0.6


@pytest.mark.timeout(1200)
def test_the_short_form_passes_its_floor(tmp_path: Path) -> None:
    run, outcome = trained_in_full(load_config("guide-short"), tmp_path)

    verdicts = ask_alone(load(run.model), held_out()[::8])

    assert outcome.step == outcome.steps
    assert outcome.best_loss is not None
    assert outcome.best_loss <= MOST_LOSS
    assert sum(verdict.language == verdict.question.language for verdict in verdicts) / len(verdicts) >= FLOOR
