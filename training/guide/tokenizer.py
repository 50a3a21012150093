"""The guide's tokenizer: small, and with a chat template that levels what people type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from training.data import tokenizers
from training.data.tokenizers import END, START

__all__ = ["END", "START", "TEMPLATE", "VOCABULARY", "levelled", "train_tokenizer"]

VOCABULARY: Final = 16_384

# ChatML. A visitor's capitals, question and exclamation marks tell so small a model nothing and are left out.
# Rendering a longer conversation extends the shorter one, which keeps the key-value cache valid.
TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'user' -%}"
    "{{- message['content'] | lower | replace('?', '') | replace('!', '') -}}"
    "{%- else -%}{{- message['content'] -}}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def levelled(text: str) -> str:
    """A visitor's text as the template shows it to the model."""
    return text.lower().replace("?", "").replace("!", "")


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Any:
    """A `transformers` tokenizer trained on `texts`, with the chat template."""
    return tokenizers.train_tokenizer(texts, vocabulary, template=TEMPLATE)
