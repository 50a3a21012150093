"""Finding the model in what a command is given: a model's folder, a checkpoint's, an adapter's, a run's; and whether a
training can go on from a checkpoint."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from app.engines.checkpoint import open_checkpoint
from app.engines.checkpoint_files import ADAPTER, CheckpointError, check_adapter, check_weights, tensor_shapes
from app.engines.local_files import read_json
from training.average import RAW
from training.runs import RunError

__all__ = ["CheckpointError", "check_checkpoint", "find_model"]

# What Trainer keeps beside the weights; without these it would go on otherwise, and say nothing.
_STATE: Final = "trainer_state.json"
_KEPT: Final = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def find_model(path: Path | str) -> Path:
    """The folder of the model, or of the adapter, checked: `path` itself, or the newest whole one of a run.

    Raises:
        CheckpointError: there is none, or none that is whole; the message says what to do.
    """
    return open_checkpoint(path).folder


def check_checkpoint(folder: Path, family: str) -> None:
    """Hold a checkpoint against what a training needs to go on from it just as if it had never stopped.

    Args:
        folder: the checkpoint's.
        family: `model_type` of the model that is trained.

    Raises:
        RunError: a file is missing or cut off, or the weights are of another model; it says which and what to do.
    """
    try:
        if (folder / ADAPTER).exists():
            check_adapter(folder)
            found = family
        else:
            found = check_weights(folder)
        wrong = _damage(folder) if found == family else f"its model is a {found}, this training's a {family}"
    except CheckpointError as problem:
        wrong = str(problem)
    if wrong:
        raise RunError(
            f"{folder} is broken: {wrong}. Without that folder the same command goes on from the checkpoint before it; "
            "RESUME=no starts anew"
        )


def _damage(folder: Path) -> str:
    """What is wrong with the files beside the weights.

    Raises:
        CheckpointError: the weights before averaging are cut off.
    """
    if (folder / RAW).exists():
        tensor_shapes(folder / RAW)
    for name in _KEPT:
        if not zipfile.is_zipfile(folder / name):
            return f"{name} is missing or cut off"
    return "" if read_json(folder / _STATE) else f"{_STATE} is missing or cut off"
