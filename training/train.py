"""`python -m training.train CONFIG`: trains a model as a config says, or goes on with a training that was cut short.

See training/README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import ConfigError, TrainingConfig, load_config
from training.runs import RUNS, Run, RunError, open_run
from training.saving import DiskFullError, is_full, tidy


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended. `signal`: it was asked to stop, and is not finished."""

    step: int
    steps: int
    best_loss: float | None
    best_step: int | None
    early: bool
    signal: int | None


def train(config: TrainingConfig, run: Run, *, quiet: bool = False) -> Outcome:
    """Train in a run folder, from its last checkpoint on if it has one.

    Args:
        config: what is trained, on what and how.
        run: held by this process.
        quiet: nothing is printed.

    Raises:
        RunError: the data has changed since the run began, its last checkpoint is broken, or the loss is no number any
            more.
        DiskFullError: a checkpoint could not be saved; those before it stay.
        DataError, ModelError: see training.data and training.models.
    """
    import torch
    from transformers import set_seed
    from transformers.utils import logging

    from training.checkpoint import check_checkpoint
    from training.devices import device_of, keep_memory, precision_of, without_cuda
    from training.loop import Loop
    from training.loss_file import LossFile
    from training.watching import Averaging, Bookkeeping, Interruption

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device, precision = device_of(config.training.device), precision_of(config.training)
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    if device == "cpu":
        keep_memory()
    set_seed(config.seed)
    for folder in (run.folder, run.checkpoints):
        tidy(folder)
    last = run.last_checkpoint()
    tokenizer, model, feed = _parts(config, run, quiet=quiet)
    run.check_data(feed.fingerprint)
    if last:
        check_checkpoint(last, model.config.model_type)
    begun = int(last.name.rpartition("-")[2]) if last else 0
    if not quiet:
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        print(f"{run.folder}: {size:,.1f} million parameters on {device}, {str(precision).removeprefix('torch.')}")
        if device == "cpu" and (lacks := without_cuda()):
            print(f"It trains on the processor: {lacks}")
        if last:
            print(f"It goes on after step {begun} ({last}); RESUME=no would start anew.")
    averaging, interruption = Averaging(), Interruption()
    books = Bookkeeping(LossFile(run.folder, begun), quiet=quiet)
    loop = Loop(config, run, model, tokenizer, feed, precision, [averaging, books, interruption])
    averaging.loop = loop
    interruption.watch()
    try:
        loop.train(resume_from_checkpoint=str(last) if last else None)
        state = loop.state
        stopped = interruption.signal if state.global_step < state.max_steps and not loop.lost else None
        if stopped is None and not len(feed.held_out):
            loop.save_whole_model()
    finally:
        books.close()
        interruption.leave()
    outcome = Outcome(state.global_step, state.max_steps, state.best_metric, state.best_global_step, loop.lost, stopped)
    if stopped is None:
        run.finish({"steps": outcome.step, "best_loss": outcome.best_loss, "best_step": outcome.best_step})
    return outcome


def _parts(config: TrainingConfig, run: Run, *, quiet: bool) -> tuple[Any, Any, Any]:
    """The tokenizer, the model and the batches. The tokenizer of a run that has begun is the one it began with."""
    from training.data.tokenizers import load_tokenizer, open_tokenizer
    from training.saving import whole

    tokenizer = load_tokenizer(str(run.tokenizer)) if run.tokenizer.is_dir() else None
    if config.data.source == "guide":
        from training.guide.source import guide_feed, guide_model, guide_tokenizer

        tokenizer = tokenizer or guide_tokenizer(config)
        parts = tokenizer, guide_model(config, tokenizer), guide_feed(config, tokenizer)
    else:
        from training.batches import feed_of
        from training.data import open_data
        from training.models import open_model

        if not quiet:
            print("Reading the corpus...", flush=True)
        tokenizer = tokenizer or open_tokenizer(config)
        data = open_data(config, tokenizer, run.tokens)
        if not quiet:
            print(data)
        parts = tokenizer, open_model(config, tokenizer), feed_of(config, data.train, data.held_out, data.fingerprint)
    if not run.tokenizer.is_dir():
        with whole(run.tokenizer) as folder:
            tokenizer.save_pretrained(folder)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a file, or the name of one in training/configs")
    parser.add_argument("--data", default="", help="a file or folder to train on in place of the config's")
    parser.add_argument("--resume", default="", help="a run folder to go on with, or `no` to start anew")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where run folders are")
    arguments = parser.parse_args()
    run: Run | None = None
    known: tuple[type[Exception], ...] = (ConfigError, RunError)
    try:
        config = load_config(arguments.config, arguments.data)
        if config.data.source == "files":
            known += _errors_of_data()
        run = open_run(config, arguments.resume, arguments.runs)
        outcome = train(config, run)
    except known as problem:
        if run and not run.begun:
            run.discard()
        sys.exit(f"train: {problem}")
    except (DiskFullError, OSError) as problem:
        if isinstance(problem, OSError) and not is_full(problem):
            raise
        sys.exit(_no_room(problem, run))
    except KeyboardInterrupt:
        last = run.last_checkpoint() if run else None
        print(f"train: stopped; the same command {f'goes on from {last}' if last else 'begins anew'}")
        sys.exit(130)
    _tell(config, run, outcome)


def _errors_of_data() -> tuple[type[Exception], ...]:
    from training.data.errors import DataError
    from training.models import ModelError

    return DataError, ModelError


def _no_room(problem: Exception, run: Run | None) -> str:
    last = run.last_checkpoint() if run else None
    kept = f"The last good checkpoint stays: {last}." if last else "There is no checkpoint yet."
    return f"train: {problem}. {kept} Make room (old folders in {RUNS}/ can go) and run the same command to go on"


def _tell(config: TrainingConfig, run: Run, outcome: Outcome) -> None:
    if outcome.signal is not None:
        print(
            f"Stopped after step {outcome.step} of {outcome.steps}; the same command goes on from there ({run.folder})."
        )
        sys.exit(128 + outcome.signal)
    if outcome.early:
        print(f"Stopped at step {outcome.step}: the last {config.training.patience} evaluations were no better.")
    if outcome.best_loss is not None:
        print(f"The best held-out loss is {outcome.best_loss:.4f}, of step {outcome.best_step}.")
    print(f"{run.model}: the model. {os.path.join(run.folder, 'loss.png')}: how it learned.")


if __name__ == "__main__":
    main()
