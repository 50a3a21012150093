"""What a training that runs as a process of its own has come to."""

from __future__ import annotations

from pathlib import Path

from training.loss_file import LossFile
from training.runs import newest_run


def steps_of(runs: Path) -> int:
    """The steps that the newest run of the baseline in a folder of runs has made; 0 if there is none yet."""
    run = newest_run("baseline", runs)
    return len(LossFile.read(run.folder)) if run else 0
