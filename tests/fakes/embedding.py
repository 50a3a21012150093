"""/api/embed of the fake Ollama. Of the real one only the refusal of a chat model was recorded; the rest is by
https://docs.ollama.com/api, and the refusal of a text that does not fit a batch by llama-server's source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

from tests.fakes.answers import Measured
from tests.fakes.exchange import Exchange, Refused
from tests.fakes.machine import Machine, Pace
from tests.fakes.requests import ChatRequest
from tests.fakes.words import tokens_of

_FRAME = 2  # tokens around each text


async def embed(machine: Machine, asked: ChatRequest, body: Mapping[str, Any], exchange: Exchange) -> None:
    """Answer a request for vectors in the model's slot.

    Raises:
        Refused: a text is too long, or the model makes no vectors.
    """
    if "embedding" not in asked.model.capabilities:
        raise Refused(501, "This server does not support embeddings. Start it with `--embeddings`")
    given = body.get("input") or []
    texts: Sequence[str] = [given] if isinstance(given, str) else given
    async with machine.slot(asked.model.name) as waited:
        pace = Pace(machine)
        runner, load_seconds = await machine.load(asked, None, pace)
        measured = Measured(waited=waited, load=load_seconds)
        vectors = []
        for text in texts:
            tokens = tokens_of(text)
            room = runner.options.num_ctx - _FRAME
            if len(tokens) > room:
                if not asked.truncate:
                    raise Refused(400, "the input length exceeds the context length")
                tokens = tokens[:room]
            size = len(tokens) + _FRAME
            if size > runner.options.num_batch:
                raise Refused(
                    500,
                    f"input ({size} tokens) is too large to process. increase the physical batch size "
                    f"(current batch size: {runner.options.num_batch})",
                )
            await pace.spend(size / machine.prompt_speed)
            measured.prompt_tokens += size
            vectors.append(vector_of(tokens, asked.model.embedding))
        counts = measured.counts()
        told = {key: counts[key] for key in ("total_duration", "load_duration", "prompt_eval_count") if key in counts}
        await exchange.answer({"model": asked.name, "embeddings": vectors} | told)


def vector_of(tokens: Sequence[str], size: int) -> list[float]:
    """A vector of length one: texts with the same words have the same, with some in common a similar one."""
    vector = [0.0] * size
    for token in tokens:
        vector[int.from_bytes(hashlib.sha256(token.lower().encode()).digest()[:4]) % size] += 1.0
    length = sqrt(sum(value * value for value in vector)) or 1.0
    return [round(value / length, 7) for value in vector]
