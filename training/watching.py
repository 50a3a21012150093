"""Who watches a training: the average, the loss file, the progress bar, and those who end it."""

from __future__ import annotations

import math
import signal
import sys
from types import FrameType
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback

from training.loop import Loop
from training.loss_file import LossFile
from training.runs import RunError


class Averaging(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Has the average of the weights follow them."""

    def __init__(self) -> None:
        self.loop: Loop | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.loop and self.loop.average:
            self.loop.average.follow(state.global_step)


class Bookkeeping(TrainerCallback):  # type: ignore[misc]
    """Writes loss.csv and draws it; shows the bar.

    Args:
        losses: where rows go.
        quiet: no bar.
    """

    def __init__(self, losses: LossFile, *, quiet: bool = False) -> None:
        self._losses, self._quiet = losses, quiet
        self._bar: Any = None
        self._row: dict[str, object] = {}
        self._before = 0
        self._held_out = ""
        self._drawn = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._before = state.num_input_tokens_seen
        # A log file gets a line now and then, a terminal a bar that moves.
        pause = 1.0 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            total=state.max_steps, initial=state.global_step, disable=self._quiet, unit="step", mininterval=pause
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" not in logs:
            return
        loss, step = logs["loss"], state.global_step
        if not math.isfinite(loss):
            raise RunError(
                f"the loss is no number any more at step {step}: lower training.learning_rate and start anew with "
                "RESUME=no. The checkpoints before it stay"
            )
        self._drawn = False
        self._row = {
            "step": step,
            "tokens": state.num_input_tokens_seen,
            "loss": f"{loss:.6f}",
            "learning_rate": f"{logs['learning_rate']:.6g}",
        }
        if not control.should_evaluate:
            self._losses.add(self._row)
        seconds = max(self._bar.format_dict["elapsed"], 1e-9)
        speed = (state.num_input_tokens_seen - self._before) / seconds
        self._bar.set_postfix_str(f"loss {loss:.3f}{self._held_out}, {speed:,.0f} tok/s", refresh=False)
        self._bar.update()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **_: Any) -> None:
        self._held_out = f", held-out {metrics['eval_loss']:.3f}"
        self._losses.add(self._row | {"held_out_loss": f"{metrics['eval_loss']:.6f}"})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._losses.draw()
        self._drawn = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._drawn:
            self._losses.draw()

    def close(self) -> None:
        """Let go of the files, however training ended."""
        if self._bar is not None:
            self._bar.close()
        self._losses.close()


class Interruption(TrainerCallback):  # type: ignore[misc]
    """Ctrl-C or SIGTERM: the step that is under way ends, a checkpoint is saved, and training stops.

    A second Ctrl-C stops at once, without a checkpoint.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def watch(self) -> None:
        """From now on signals are kept until a step ends."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)

    def leave(self) -> None:
        """Give the signals back to who had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.signal is not None:
            control.should_save = control.should_training_stop = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        print("\nA checkpoint is saved at the end of this step...", file=sys.stderr, flush=True)
