"""Finding the model in what a command is given: a model's folder, a checkpoint's, an adapter's, a run's."""

from __future__ import annotations

from pathlib import Path

from app.engines.checkpoint import open_checkpoint
from app.engines.checkpoint_files import CheckpointError

__all__ = ["CheckpointError", "find_model"]


def find_model(path: Path | str) -> Path:
    """The folder of the model, or of the adapter, checked: `path` itself, or the newest whole one of a run.

    Raises:
        CheckpointError: there is none, or none that is whole; the message says what to do.
    """
    return open_checkpoint(path).folder
