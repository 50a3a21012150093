"""Several raw prompts generated together: each step of the model writes a token for each.

Prompts are padded at their left, so that all end at the same place; an attention mask hides the padding.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.engines.base import Completion, CompletionRequest, Delta, Done, FinishReason, Usage
from app.engines.local_reply import ReplyText
from app.engines.local_sampling import Sampling, seeded
from app.engines.local_text import TextStream


class Cancelled(Exception):
    """The completion was given up by its reader."""


@dataclass
class _Row:
    """One prompt on its way to its text.

    Attributes:
        ids: of the prompt.
        bound: most tokens of the reply.
        text, count, reason, ended: what came of it; `ended` in seconds, when it did.
    """

    request: CompletionRequest
    ids: Sequence[int]
    bound: int
    tokenizer: Any
    text: str = ""
    count: int = 0
    reason: FinishReason | None = None
    ended: float = 0.0
    reply: ReplyText = field(init=False)
    stream: TextStream = field(init=False)

    def __post_init__(self) -> None:
        self.reply = ReplyText(self.request, self._take)
        self.stream = TextStream(self.tokenizer, self.reply.feed)

    def _take(self, delta: Delta) -> None:
        self.text += delta.text

    def add(self, token: int, ends: Sequence[int]) -> None:
        """Take the next token; whether the reply ends with it is in `reason` then."""
        self.count += 1
        self.stream.add(token)
        if self.reply.stopped or token in ends:
            self.reason = "stop"
        elif self.count >= self.bound:
            self.reason = "length"
        if self.reason is not None:
            self.stream.end()
            self.reply.flush()
            self.ended = time.monotonic()


def generate_together(
    model: Any,
    tokenizer: Any,
    own: Sampling,
    wanted: Sequence[tuple[CompletionRequest, Sequence[int], int]],
    *,
    device: str,
    piece: int,
    cancel: threading.Event,
    tick: Callable[[], None],
) -> list[Completion]:
    """The texts that follow several prompts, in their order.

    Args:
        model, tokenizer, own: of transformers, with what its files say of sampling.
        wanted: requests that differ in their prompts alone, each with its tokens, at least one, and its reply's bound.
        device: where the model is.
        piece: tokens of the prompts read at once.
        cancel: set to give it up.
        tick: called after each step.

    Raises:
        Cancelled: it was given up.
    """
    import torch
    from transformers import DynamicCache, StoppingCriteriaList

    began = time.monotonic()
    rows = [_Row(request, ids, bound, tokenizer) for request, ids, bound in wanted]
    width = max(len(row.ids) for row in rows)
    padded = [[own.pad_id] * (width - len(row.ids)) + list(row.ids) for row in rows]
    hidden = [[0] * (width - len(row.ids)) + [1] * len(row.ids) for row in rows]
    input_ids, mask = torch.tensor(padded, device=device), torch.tensor(hidden, device=device)
    cache = DynamicCache(config=model.config)
    options = wanted[0][0].options

    def step(ids: Any, scores: Any, **_: Any) -> Any:
        """Called after each token of all rows; says which have ended."""
        tick()
        for row, token in zip(rows, ids[:, -1].tolist(), strict=True):
            if row.reason is None:
                row.add(token, own.end_ids)
        done = [row.reason is not None or cancel.is_set() for row in rows]
        return torch.tensor(done, dtype=torch.bool, device=ids.device)

    with torch.inference_mode(), seeded(options.seed, device):
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        for at in range(0, width - 1, piece):
            if cancel.is_set():
                raise Cancelled
            end = min(at + piece, width - 1)
            model(
                input_ids=input_ids[:, at:end],
                attention_mask=mask[:, :end],
                position_ids=places[:, at:end],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            tick()
        read = time.monotonic()
        model.generate(
            input_ids=input_ids,
            attention_mask=mask,
            past_key_values=cache,
            stopping_criteria=StoppingCriteriaList([step]),
            **own.arguments(options, max(row.bound for row in rows), width),
        )
    if cancel.is_set():
        raise Cancelled
    return [_completion(row, read - began, row.ended - read) for row in rows]


def _completion(row: _Row, reading: float, writing: float) -> Completion:
    usage = Usage(len(row.ids), row.count, 0.0, reading, writing, cached_tokens=0)
    return Completion(row.text, Done(row.reason or "length", usage))
