"""The guide's training in its short form: too short for a good guide, long enough to see that it learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from training.config import load_config
from training.guide.corpus import Question, held_out
from training.guide.evaluate import Answerer, load
from training.guide.knowledge import FOREIGN, answers

from .training_runs import trained_in_full

# The shares of questions whose replies have to begin as the right answer does, about the program and about all else:
# whole answers are known by heart later. The guide itself does much better: see models/guide/README.md.
FLOOR_RIGHT = 0.45
FLOOR_HONEST = 0.8


def begun_right(answer: Answerer, questions: Sequence[Question]) -> list[bool]:
    """Whether a reply has the first word of the right answer, which differs from nearly all others'."""
    right = {(key, language): text.split()[0] for (key, language), text in answers().items()}
    ordered = sorted(questions, key=lambda question: len(question.text))
    found = []
    for at in range(0, len(ordered), 32):
        some = ordered[at : at + 32]
        replies = answer([[{"role": "user", "content": question.text}] for question in some])
        found += [
            reply.split()[:1] == [right[question.key, question.language]]
            for question, reply in zip(some, replies, strict=True)
        ]
    return found


@pytest.mark.timeout(1200)
def test_the_short_form_passes_its_floor(tmp_path: Path) -> None:
    run, outcome = trained_in_full(load_config("guide-short"), tmp_path)
    assert outcome.step == outcome.steps
    answer, asked = load(run.model, most_tokens=8), held_out()[::4]
    for foreign, floor in ((False, FLOOR_RIGHT), (True, FLOOR_HONEST)):
        right = begun_right(answer, [question for question in asked if (question.key == FOREIGN) is foreign])
        assert sum(right) / len(right) >= floor
