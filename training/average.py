"""The moving average of a model's weights, which is better than any of its moments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

RAW: Final = "raw.safetensors"


class Average:
    """Follows the weights that are trained.

    Args:
        model: whose weights.
        decay: share of the average that stays at each step; less in the first steps.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self._decay = decay
        self._trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._average: dict[str, torch.Tensor] = {}
        self.take()

    def take(self) -> None:
        """Begin with the weights that the model has now."""
        self._average = {name: one.detach().clone() for name, one in self._trained.items()}

    def follow(self, step: int) -> None:
        """Move towards the weights of a step."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._trained.items():
            self._average[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average's weights meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def save_raw(self, folder: Path) -> None:
        """Keep the weights as they are, beside the average, which is the model of the folder."""
        save_file({name: one.detach().contiguous() for name, one in self._trained.items()}, folder / RAW)

    def load_raw(self, folder: Path) -> None:
        """Take the model's weights, just loaded, as the average; and those that were kept as the model's."""
        self.take()
        for name, tensor in load_file(folder / RAW).items():
            self._trained[name].data.copy_(tensor)

    def _swap(self) -> None:
        for name, parameter in self._trained.items():
            parameter.data, self._average[name] = self._average[name], parameter.data
