"""Several prompts in one request to /v1/completions: a choice for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from app.api.openai_forms import CompletionForm, cost, counted, finish_reason, framed
from app.errors import ChatError
from app.forward import Forwarded


def completions_of(results: Sequence[Forwarded], *, build: str) -> dict[str, Any]:
    """The answer, with the choices in the order of the prompts and what they cost together.

    Args:
        results: at least one.
        build: what a fingerprint is made of, besides the model.

    Raises:
        ChatError: one of them failed; OpenAI's API has no answer for a part.
    """
    failed: list[ChatError] = [result.error for result in results if result.error is not None]
    if failed:
        raise failed[0]
    choices = [
        {"index": n, "text": result.text, "logprobs": None, "finish_reason": finish_reason(result.finish_reason)}
        for n, result in enumerate(results)
    ]
    prompt, reply, cached = (sum(part) for part in zip(*(counted(result.metrics) for result in results), strict=True))
    head = framed(
        CompletionForm.object, f"{CompletionForm.prefix}{uuid4().hex}", int(time.time()), results[0].model, build
    )
    return head | {"choices": choices, "usage": cost(prompt, reply, cached)}
