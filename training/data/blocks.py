"""Rows of one length for training, in a file that is mapped into memory: only what is read of it takes memory."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.data.encoding import Tokens
from training.data.errors import DataError

IGNORED: Final = -100  # torch's cross entropy leaves these labels out
_ROWS: Final = 4096


class Blocks:
    """A map-style dataset of rows: `{"input_ids": LongTensor[block], "labels": LongTensor[block]}`.

    The documents follow each other without a gap; a row begins wherever the one before it ended. Rows in which
    nothing is learnt are left out, as their loss is not a number. The tail that fills no row is left out, or filled up.

    Args:
        documents: tokens as `Encoder` makes them, with the bytes of the learnt text.
        block: tokens of a row.
        file: where the tokens are kept; None: a file of the system's temporary folder, which goes with this object.
        padding: id that fills up the last row; None: the tail is left out.

    Attributes:
        tokens: of all documents.
        learnt: how many of them count for the loss.
        text_bytes: of the text that these are.
        fingerprint: the same for the same rows, to check a resumed training by.

    Raises:
        DataError: there is no room for the file.
    """

    def __init__(
        self,
        documents: Iterable[tuple[Tokens, int]],
        block: int,
        *,
        file: Path | None = None,
        padding: int | None = None,
    ) -> None:
        self.block = block
        self.tokens = self.learnt = self.text_bytes = 0
        self._folder: Any = None
        if file is None:
            self._folder = tempfile.TemporaryDirectory(prefix="training-")
            file = Path(self._folder.name) / "tokens"
        digest = hashlib.blake2b(str(block).encode(), digest_size=16)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as out:
                for tokens, text_bytes in documents:
                    out.write(tokens.tobytes())
                    digest.update(tokens.tobytes())
                    self.tokens += len(tokens)
                    self.learnt += int((tokens >= 0).sum())
                    self.text_bytes += text_bytes
                missing = -self.tokens % block if padding is not None else 0
                out.write(np.full(missing, ~(padding or 0), np.int32).tobytes())
        except OSError as problem:
            if file.is_file():
                file.unlink()
            raise DataError(f"the tokens cannot be written to {file.parent}: {problem.strerror or problem}") from None
        self.fingerprint = digest.hexdigest()
        rows = (self.tokens + missing) // block
        self._rows = np.memmap(file, np.int32, "r", shape=(rows, block)) if rows else np.zeros((0, block), np.int32)
        # The first token of a row is nobody's next one: it never counts.
        useful = [(self._rows[at : at + _ROWS, 1:] >= 0).any(axis=1) for at in range(0, rows, _ROWS)]
        self._useful = np.flatnonzero(np.concatenate(useful)) if useful else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._useful)

    def __getitem__(self, number: int) -> dict[str, Any]:
        import torch

        row = np.asarray(self._rows[self._useful[number]], np.int64)
        return {
            "input_ids": torch.from_numpy(np.where(row < 0, ~row, row)),
            "labels": torch.from_numpy(np.where(row < 0, IGNORED, row)),
        }
