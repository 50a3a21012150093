"""How well a model foretells a text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from training.data.encoding import Tokens

_BATCH: Final = 8  # windows at once,
_LOGITS: Final = 2**27  # but no more numbers than so many come out of them: half a gigabyte


@dataclass(frozen=True, slots=True)
class Perplexity:
    """What a model's guesses at the learnt tokens of some documents come to.

    Attributes:
        tokens: how many were guessed, ends of texts and of answers included.
        text_bytes: of their text in UTF-8.
        nats: minus the logarithm of the probability of all of them.
    """

    tokens: int
    text_bytes: int
    nats: float

    @property
    def per_token(self) -> float:
        """Among how many tokens the model wavers; tells models of one tokenizer apart."""
        return _exp(self.nats / self.tokens) if self.tokens else math.nan

    @property
    def per_byte(self) -> float:
        """The same by byte of the text, which compares models of different tokenizers."""
        return _exp(self.nats / self.text_bytes) if self.text_bytes else math.nan

    def __str__(self) -> str:
        bits = self.nats / math.log(2) / self.text_bytes if self.text_bytes else math.nan
        return (
            f"perplexity {self.per_token:.2f} per token, {self.per_byte:.3f} per byte ({bits:.3f} bits), "
            f"of {self.tokens:,} tokens, {self.text_bytes:,} bytes"
        )


def perplexity(
    model: Any, tokens: Tokens, text_bytes: int, window: int, progress: Callable[[list[Any]], Any] = iter
) -> Perplexity:
    """Measure with a window that moves by half its length: each token is guessed once, from at least the half window
    before it where there is so much.

    Source: "Perplexity of fixed-length models" in the documentation of transformers.

    Args:
        model: a causal model of `transformers`, in evaluation.
        tokens: all documents in a row, as `Encoder` makes them: `~id` is read and not guessed.
        text_bytes: of the text of those that are guessed.
        window: tokens that the model reads at once.
        progress: is given the batches, and gives them back.
    """
    import torch
    from torch.nn import functional

    nats, guessed = 0.0, 0
    windows = list(_windows(len(tokens), window))
    size = max(min(_BATCH, _LOGITS // (window * model.config.vocab_size)), 1)
    batches = [windows[at : at + size] for at in range(0, len(windows), size)]
    with torch.inference_mode():
        for batch in progress(batches):
            rows = np.stack([tokens[begin:end] for begin, _, end in batch]).astype(np.int64)
            for row, (begin, new, _) in zip(rows, batch, strict=True):
                old = row[: new - begin]  # guessed in the window before
                row[: new - begin] = np.where(old < 0, old, ~old)
            ids = torch.from_numpy(np.where(rows < 0, ~rows, rows)).to(model.device)
            wanted = torch.from_numpy(rows >= 0)[:, 1:].to(model.device)
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1][wanted]
            nats += functional.cross_entropy(logits.float(), ids[:, 1:][wanted], reduction="sum").item()
            guessed += int(wanted.sum())
    return Perplexity(guessed, text_bytes, nats)


def _windows(length: int, window: int) -> Iterator[tuple[int, int, int]]:
    """Where each window begins, where what is new in it begins, and where it ends. All are of one length."""
    end = min(window, length)
    yield 0, min(1, length), end
    while end < length:
        new, end = end, min(end + max(window // 2, 1), length)
        yield end - window, new, end


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
