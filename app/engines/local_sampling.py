"""How a local model chooses its tokens: what its files say, what a request asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from app.engines.base import GenerationOptions


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the model's own generation_config.json says and a request does not.

    Attributes:
        end_ids: tokens that end a reply.
        pad_id: fills what has no token.
    """

    end_ids: tuple[int, ...]
    pad_id: int
    top_k: int
    repetition_penalty: float

    @classmethod
    def of(cls, defaults: Any, tokenizer: Any) -> Sampling:
        """From the model's generation config and its tokenizer."""
        ends = sorted({*_ids(defaults.eos_token_id), *_ids(tokenizer.eos_token_id)})
        pads = (*_ids(tokenizer.pad_token_id), *ends, 0)
        return cls(
            end_ids=tuple(ends),
            pad_id=pads[0],
            top_k=getattr(defaults, "top_k", None) or 0,  # 0: off
            repetition_penalty=getattr(defaults, "repetition_penalty", None) or 1.0,
        )

    def arguments(self, options: GenerationOptions, max_tokens: int, prompt: int) -> dict[str, Any]:
        """What `generate` is called with.

        Args:
            max_tokens: upper bound of the reply.
            prompt: tokens of the prompt, padding included; what follows them is the reply.
        """
        from transformers import GenerationConfig, LogitsProcessorList

        sampled = options.temperature > 0
        config = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=sampled,
            eos_token_id=list(self.end_ids) or None,
            pad_token_id=self.pad_id,
            repetition_penalty=self.repetition_penalty,
            **({"temperature": options.temperature, "top_p": options.top_p, "top_k": self.top_k} if sampled else {}),
        )
        penalties = [Penalties(options, prompt)] if options.presence_penalty or options.frequency_penalty else []
        return {"generation_config": config, "logits_processor": LogitsProcessorList(penalties)}


class Penalties:
    """OpenAI's presence and frequency penalty: of what the reply has said so far, the prompt left aside.

    Source: https://platform.openai.com/docs/guides/text-generation (advanced: frequency and presence penalties).
    """

    def __init__(self, options: GenerationOptions, prompt: int) -> None:
        self._presence = options.presence_penalty
        self._frequency = options.frequency_penalty
        self._prompt = prompt

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores (rows, vocabulary) of the next tokens after `input_ids` (rows, tokens)."""
        said = input_ids[:, self._prompt :]
        counts = scores.new_zeros(scores.shape).scatter_add_(1, said, scores.new_ones(said.shape))
        return scores - self._frequency * counts - self._presence * (counts > 0)


@contextmanager
def seeded(seed: int | None, device: str) -> Iterator[None]:
    """Draw the same random numbers for the same seed; what others draw afterwards is as if this had not been."""
    import torch

    if seed is None:
        yield
        return
    generators = [torch] if device == "cpu" else [torch, torch.get_device_module(device)]
    states = [generator.get_rng_state() for generator in generators]
    try:
        torch.manual_seed(seed % 2**63)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_rng_state(state)


def _ids(found: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if found is None else (found,) if isinstance(found, int) else tuple(found)
