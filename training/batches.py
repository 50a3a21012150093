"""What the loop is fed: batches by number, the same for the same number, so that a resumed training goes on exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from training.config import TrainingConfig


class Rows(Protocol):
    """Rows of `input_ids` and `labels`, each a LongTensor [block]."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> dict[str, Any]: ...


class Batches(Protocol):
    """Batches of `input_ids` and `labels`, each a LongTensor [rows, tokens].

    If rows have several sequences that do not see each other, also of `position_ids` of that shape: one begins where
    these are 0. If a teacher thinks of several tokens at some positions, also of `taught`, a LongTensor [n, 3] of row,
    position and token, and `shares`, a FloatTensor [n] that is 1 in all by position, in place of its label. If all that
    is wanted is among some tokens, and only these are to be told apart, also of `candidates`, a LongTensor of them in
    order.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Feed:
    """All batches of a training in their order, and those for evaluation; `fingerprint`: the same for the same data."""

    train: Batches
    held_out: Batches
    fingerprint: str


class Shuffled:
    """Batches of rows, each epoch in an order of its own that the seed gives.

    Args:
        rows: at least one.
        seed: of the orders.
        size: rows of a batch.
        count: batches in all.
    """

    def __init__(self, rows: Rows, seed: int, size: int, count: int) -> None:
        self._rows, self._seed, self._size, self._count = rows, seed, size, count
        self._epoch, self._order = -1, [0]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int, /) -> dict[str, Any]:
        if not 0 <= number < self._count:
            raise IndexError(number)
        places = range(number * self._size, (number + 1) * self._size)
        return _stacked([self._rows[self._place(place)] for place in places])

    def _place(self, place: int) -> int:
        epoch, within = divmod(place, len(self._rows))
        if epoch != self._epoch:
            import torch

            chance = torch.Generator().manual_seed(self._seed + epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self._rows), generator=chance).tolist()
        return self._order[within]


class InOrder:
    """Batches of rows as they come, once; the last may be smaller."""

    def __init__(self, rows: Rows, size: int) -> None:
        self._rows, self._size = rows, size

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._size)

    def __getitem__(self, number: int, /) -> dict[str, Any]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        places = range(number * self._size, min((number + 1) * self._size, len(self._rows)))
        return _stacked([self._rows[place] for place in places])


def feed_of(config: TrainingConfig, train: Rows, held_out: Rows, fingerprint: str) -> Feed:
    """The batches that a config asks for, of these rows."""
    loop = config.training
    size = loop.batch_tokens // config.data.block
    batches = loop.steps * loop.accumulate
    if loop.epochs:
        batches = math.ceil(len(train) * loop.epochs / (size * loop.accumulate)) * loop.accumulate
    return Feed(Shuffled(train, config.seed, size, batches), InOrder(held_out, size), fingerprint)


def only(batches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The one batch of a list: Trainer's loader collects items, and an item is a batch already."""
    (batch,) = batches
    return batch


def _stacked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    return {part: torch.stack([row[part] for row in rows]) for part in ("input_ids", "labels")}
