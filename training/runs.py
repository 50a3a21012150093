"""Run folders: `runs/<name>/<UTC time>/`, one for each training, with all that tells how it went and how to go on."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import yaml

from training.config import TrainingConfig, as_dict

RUNS: Final = Path("runs")
_CONFIG, _VERSIONS, _DATA, _FINISHED = "config.yaml", "versions.json", "data.txt", "finished.json"
_PACKAGES: Final = ("torch", "transformers", "accelerate", "tokenizers", "safetensors", "peft", "numpy", "scikit-learn")
_PREFIX: Final = "checkpoint-"


class RunError(Exception):
    """A training that cannot begin or go on; the message says why and what to do."""


class Run:
    """A run folder. Only one process at a time may train in it.

    Args:
        folder: exists, with the config in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: TextIO | None = None

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens"

    @property
    def finished(self) -> bool:
        return (self.folder / _FINISHED).is_file()

    @property
    def begun(self) -> bool:
        """Whether there was anything to train with. If not, there is nothing to go on with."""
        return (self.folder / "loss.csv").is_file()

    def discard(self) -> None:
        """Remove a run that has not begun."""
        self.let_go()
        shutil.rmtree(self.folder)

    def finish(self, outcome: dict[str, Any]) -> None:
        """Note that nothing is left to do. The tokens, which may be many, were only for training."""
        (self.folder / _FINISHED).write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(self.tokens, ignore_errors=True)

    def last_checkpoint(self) -> Path | None:
        """The one of the most steps. Only whole ones have this name: see `Loop`."""
        found = [path for path in self.checkpoints.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit()]
        return max(found, key=lambda path: int(path.name.removeprefix(_PREFIX)), default=None)

    def hold(self) -> None:
        """Keep other processes out until this one ends, however it ends.

        Raises:
            RunError: another holds it.
        """
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{self.folder} is being trained by another process right now; RESUME=no starts another run"
            ) from None

    def let_go(self) -> None:
        """Let other processes in."""
        if self._lock:
            self._lock.close()
            self._lock = None

    def check(self, config: TrainingConfig) -> None:
        """Hold a config against the one that the run began with.

        Raises:
            RunError: they differ, and where.
        """
        file = self.folder / _CONFIG
        try:
            began = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as problem:
            raise RunError(f"{file} cannot be read, so the run cannot go on: {problem}") from None
        changed = list(_differences(began, as_dict(config)))
        if changed:
            raise RunError(
                f"{self.folder} began with another config: {'; '.join(changed)}. "
                "Put it back to go on, or start anew with RESUME=no"
            )

    def check_data(self, fingerprint: str) -> None:
        """Hold the data against what the run began with; the first time, note it.

        Raises:
            RunError: it has changed.
        """
        file = self.folder / _DATA
        if not file.is_file():
            file.write_text(f"{fingerprint}\n", encoding="utf-8")
        elif file.read_text(encoding="utf-8").strip() != fingerprint:
            raise RunError(f"{self.folder} began with other data: put it back to go on, or start anew with RESUME=no")


def open_run(config: TrainingConfig, resume: str, runs: Path = RUNS) -> Run:
    """The run to go on with, or a new one; it is held.

    Args:
        config: what is to be trained.
        resume: "" for the newest run of this config if it is unfinished, "no" for a new one, or a run folder.
        runs: where run folders are.

    Raises:
        RunError: the run cannot go on.
    """
    if resume not in ("", "no"):
        run = Run(Path(resume))
        if not (run.folder / _CONFIG).is_file():
            raise RunError(f"{resume} is no run folder: it has no {_CONFIG}")
        if run.finished:
            raise RunError(f"{resume} is finished; its model is {run.model}. RESUME=no starts anew")
    else:
        newest = newest_run(config.name, runs)
        if resume == "no" or newest is None or newest.finished:
            return _new(config, runs)
        run = newest
        if not run.begun:
            run.hold()
            run.discard()
            return _new(config, runs)
    run.hold()
    run.check(config)
    return run


def newest_run(name: str, runs: Path = RUNS, *, finished: bool = False) -> Run | None:
    """The newest run of a config, or the newest finished one."""
    found = sorted(file.parent for file in (runs / name).glob(f"*/{_CONFIG}"))
    return next((run for run in map(Run, reversed(found)) if run.finished or not finished), None)


def _new(config: TrainingConfig, runs: Path) -> Run:
    began = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = runs / config.name / began
    folder.mkdir(parents=True)
    run = Run(folder)
    run.hold()
    run.checkpoints.mkdir()
    (folder / _VERSIONS).write_text(json.dumps(_versions(), indent=2) + "\n", encoding="utf-8")
    text = yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True)
    (folder / _CONFIG).write_text(text, encoding="utf-8")
    return run


def _versions() -> dict[str, str | int]:
    found: dict[str, str | int] = {
        "python": platform.python_version(),
        "system": f"{sys.platform} {platform.machine()}",
    }
    found["processors"] = os.cpu_count() or 1
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # not every training needs every package
    return found


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _differences(before.get(key), now.get(key), f"{place}.{key}" if place else str(key))
    elif before != now:
        yield f"{place} was {before!r} and is {now!r}"
