"""loss.csv, and loss.png drawn from it."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

COLUMNS: Final = ("step", "tokens", "loss", "learning_rate", "held_out_loss")


class LossFile:
    """A row for each step: nats by counted token; `held_out_loss` only where it was measured.

    Args:
        folder: of the run.
        after: the step that training goes on from; later rows are of steps that are made again.
    """

    def __init__(self, folder: Path, after: int) -> None:
        self._csv, self._png = folder / "loss.csv", folder / "loss.png"
        kept = [row for row in self.read(folder) if int(row["step"]) <= after]
        half = self._csv.with_suffix(".half")
        with half.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        os.replace(half, self._csv)
        self._file = self._csv.open("a", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")

    def add(self, row: Mapping[str, object]) -> None:
        self._writer.writerow(row)
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def read(folder: Path) -> list[dict[str, str]]:
        """All whole rows; a process that was killed may have left half a line."""
        file = folder / "loss.csv"
        if not file.is_file():
            return []
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n") and line.count(",") == len(COLUMNS) - 1]
        return list(csv.DictReader(whole))

    def draw(self) -> None:
        """Draw both losses over the steps."""
        from matplotlib.figure import Figure

        rows = self.read(self._csv.parent)
        figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.plot([int(row["step"]) for row in rows], [float(row["loss"]) for row in rows], lw=0.8, label="training")
        measured = [(int(row["step"]), float(row["held_out_loss"])) for row in rows if row["held_out_loss"]]
        if measured:
            axes.plot(*zip(*measured, strict=True), marker="o", ms=3, label="held-out")
        axes.set(xlabel="step", ylabel="loss, nats by token")
        axes.grid(alpha=0.3)
        axes.legend()
        half = self._png.with_suffix(".half.png")
        figure.savefig(half)
        os.replace(half, self._png)
