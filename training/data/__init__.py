"""What training is fed with: a corpus of files as rows of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import TrainingConfig
from training.data.blocks import Blocks
from training.data.corpus import Corpus, Survey
from training.data.encoding import Encoder
from training.data.errors import DataError

__all__ = ["Blocks", "Data", "DataError", "open_data"]


@dataclass(frozen=True, slots=True)
class Data:
    """Both sides of a corpus; `held_out` has no rows if nothing is held out."""

    train: Blocks
    held_out: Blocks
    survey: Survey

    @property
    def fingerprint(self) -> str:
        """The same for the same rows in the same order: a resumed training goes on only with these."""
        return f"{self.train.fingerprint}-{self.held_out.fingerprint}"

    def __str__(self) -> str:
        return (
            f"{self.survey}; {self.train.tokens:,} tokens to train on, {self.train.learnt:,} of them learnt, in "
            f"{len(self.train):,} rows of {self.train.block}; {self.held_out.tokens:,} held out"
        )


def open_data(config: TrainingConfig, tokenizer: Any, folder: Path | None = None) -> Data:
    """Read the corpus of a config whose `data.source` is "files".

    Args:
        config: which files, how long the rows are.
        tokenizer: by `open_tokenizer`.
        folder: where the tokens are kept, 4 bytes each; None: the system's temporary folder, until the end.

    Raises:
        DataError: a file cannot be used, or all together are shorter than one row.
    """
    corpus, encoder, block = Corpus(config.data), Encoder(tokenizer), config.data.block
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    survey = corpus.survey
    train = Blocks(encoder.encode(corpus.training()), block, file=folder / "train" if folder else None)
    if not len(train):
        raise DataError(
            f"the corpus is shorter than one row: it has {train.tokens:,} tokens to train on, {train.learnt:,} of them "
            f"to be learnt, and a row needs {block:,}; give more text, or set `data.block` to {train.tokens:,} at most"
        )
    held_out = Blocks(
        encoder.encode(corpus.held_out()), block, file=folder / "held_out" if folder else None, padding=padding
    )
    return Data(train, held_out, survey)
