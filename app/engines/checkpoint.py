"""A trained model to be served: where it is in the folder that was named, what it is called, what it needs.

A run of the training is `runs/<name>/<time>`, with `model/` at its end and `checkpoints/checkpoint-<step>` before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.engines.checkpoint_files import (
    ADAPTER,
    CheckpointError,
    check_adapter,
    check_model,
    check_tokenizer,
    has_tokenizer,
)
from app.engines.hub import Hub
from app.engines.local_files import CONFIG, has_template, read_json
from app.errors import EngineError

_MODEL: Final = "model"
_CHECKPOINTS: Final = "checkpoints"
_STEP: Final = re.compile(r"checkpoint-(\d+)")
_TIME: Final = re.compile(r"\d{4}-?\d{2}-?\d{2}\D?.*")
# The first line of a run's config.yaml.
_NAME: Final = re.compile(r"name: ([\w.-]+)$", re.MULTILINE)
_GUIDE: Final = "guide"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole one.

    Attributes:
        folder: with the model, or with an adapter.
        name: what users call it.
        base: the folder of the model that an adapter was trained on; None: the folder holds a whole model.
    """

    folder: Path
    name: str
    base: Path | None = None

    @property
    def tokenizer(self) -> Path:
        """The folder of its tokenizer."""
        return self.folder if self.base is None or has_tokenizer(self.folder) else self.base

    @property
    def has_template(self) -> bool:
        """Whether it says itself how a conversation is written."""
        return has_template(self.tokenizer)


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Find and check it; the weights themselves are not read.

    Args:
        path: a model's folder, an adapter's, a run's, or one that holds runs.

    Raises:
        CheckpointError: there is none, or none that is whole.
    """
    path = Path(path).expanduser()
    try:
        return _open(path)
    except OSError as problem:
        raise CheckpointError(
            f"{problem.filename or path} cannot be read ({problem.strerror}). "
            f"Give the user that this runs as ({os.getuid()}) the right to: chmod -R a+rX {path}"
        ) from None


def _open(path: Path) -> Checkpoint:
    if not path.exists():
        raise CheckpointError(f"there is no folder {path}. Correct the path, or train a model: make train-baseline")
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file. Name the folder that it is in")
    first: CheckpointError | None = None
    for folder in _candidates(path):
        try:
            return _whole(folder)
        except CheckpointError as problem:
            first = first or problem
    if first is not None:
        raise first
    if not any(path.iterdir()):
        raise CheckpointError(f"the folder {path} is empty. Name one with a model in it: a run, or one of its folders")
    raise CheckpointError(
        f"there is no model in {path}: neither {CONFIG} or {ADAPTER}, nor a run with {_MODEL}/ or {_CHECKPOINTS}/. "
        "Name a model's folder, or wait for the training's first checkpoint"
    )


def name_of(folder: Path) -> str:
    """What users call the model in a folder: the run's name, with the step of a checkpoint in its middle."""
    folder = folder.resolve()
    step = _STEP.fullmatch(folder.name)
    if step or folder.name == _MODEL:
        folder = folder.parent
        if folder.name == _CHECKPOINTS:
            folder = folder.parent
    called = _run_name(folder) or folder.name or _MODEL
    name = f"{called}-{step[1]}" if step else called
    # The built-in guide has its name already.
    return f"{name}-trained" if name == _GUIDE else name


def _run_name(run: Path) -> str:
    """What a run's own config calls it, wherever the run is now; else what the folder above its time is called."""
    try:
        named = _NAME.match((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        named = None
    if named:
        return named[1]
    return run.parent.name if _TIME.fullmatch(run.name) else ""


def _candidates(path: Path) -> Iterator[Path]:
    """Folders with a model in them, whole or not, the most wanted first."""
    if (path / ADAPTER).exists() or (path / CONFIG).exists() or any(path.glob("*.safetensors")):
        yield path
        return
    if (path / _MODEL).is_dir():
        yield path / _MODEL
    steps = {
        int(step[1]): folder
        for place in (path, path / _CHECKPOINTS)
        if place.is_dir()
        for folder in place.iterdir()
        if (step := _STEP.fullmatch(folder.name)) and folder.is_dir()
    }
    yield from (steps[step] for step in sorted(steps, reverse=True))
    for run in sorted((folder for folder in path.iterdir() if _TIME.fullmatch(folder.name)), reverse=True):
        if run.is_dir():
            yield from _candidates(run)


def _whole(folder: Path) -> Checkpoint:
    if not (folder / ADAPTER).exists():
        check_model(folder)
        return Checkpoint(folder, name_of(folder))
    check_adapter(folder)
    checkpoint = Checkpoint(folder, name_of(folder), _base(folder))
    check_tokenizer(checkpoint.tokenizer)
    return checkpoint


def _base(folder: Path) -> Path:
    """The folder of an adapter's base: as the adapter names it, seen from it or from here, or of the hub's cache."""
    named = read_json(folder / ADAPTER).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"{folder / ADAPTER} does not name its base (base_model_name_or_path). Write it there")
    try:
        found = next((place for place in (folder / named, Path(named)) if (place / CONFIG).is_file()), None)
        found = found or Hub().folder(named)
    except EngineError as problem:
        raise CheckpointError(str(problem)) from None
    if found is None:
        raise CheckpointError(
            f"{folder} is an adapter, and its base {named} is not on this machine. "
            f"Get it (.venv/bin/hf download {named}; into an image: --build-arg QWEN_MODEL={named}), or write the "
            f"folder where it is as base_model_name_or_path in {ADAPTER}"
        )
    check_model(found)
    return found
