"""How a conversation is written for a base model, which has no chat template of its own.

Such a model goes on with a text. So it reads a conversation as one, and its reply ends where it would write the user's
next line as well.
"""

from __future__ import annotations

from typing import Any, Final

STOPS: Final = ("\nUser:", "\nAssistant:")
# No blank after the last colon: tokenizers of that kind keep it with the word that follows.
_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}"
    "{%- elif message.role == 'user' -%}{{ 'User: ' + message.content + '\\n' }}"
    "{%- else -%}{{ 'Assistant: ' + message.content + '\\n' }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}Assistant:{%- endif -%}"
)


def plain_template(tokenizer: Any) -> str:
    """The template, after the mark of a text's beginning where the tokenizer writes one."""
    beginning = tokenizer.bos_token_id
    marked = beginning is not None and list(tokenizer("a")["input_ids"][:1]) == [beginning]
    return "{{ bos_token }}" + _TEMPLATE if marked else _TEMPLATE
