"""The guide's tokenizer: small, and with a chat template that levels what people type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from training.data import tokenizers

VOCABULARY: Final = 16_384

# A token for each role and for the end of a message, as Phi-3 has them; ChatML takes eleven for a question and its
# answer where these are four, and half of what a question costs would be marks.
USER: Final = "<|user|>"
ASSISTANT: Final = "<|assistant|>"
SYSTEM: Final = "<|system|>"
END: Final = "<|end|>"

# What tells so small a model nothing: signs and capitals, and a letter that half of all Russians leave out.
_LEVELLED: Final = {"?": "", "!": "", ",": "", "ё": "е"}

# Rendering a longer conversation extends the shorter one, which keeps the key-value cache valid.
TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'user' -%}"
    "{{- message['content'] | lower"
    + "".join(f" | replace('{old}', '{new}')" for old, new in _LEVELLED.items())
    + " -}}"
    "{%- else -%}{{- message['content'] -}}{%- endif -%}"
    "{{- '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def levelled(text: str) -> str:
    """A visitor's text as the template shows it to the model."""
    text = text.lower()
    for old, new in _LEVELLED.items():
        text = text.replace(old, new)
    return text


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> Any:
    """A `transformers` tokenizer trained on `texts`, with the chat template."""
    marks = (USER, ASSISTANT, SYSTEM, END)
    return tokenizers.train_tokenizer(texts, vocabulary, template=TEMPLATE, end=END, marks=marks)
