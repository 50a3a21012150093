"""How a prompt is read ahead: in steps, each a request that ends and so keeps what it has read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from app.engines.base import ChatMessage, CompletionRequest
from app.prompting import Asked


@dataclass(frozen=True, slots=True)
class Step:
    """A beginning of a prompt, of about `tokens` tokens, as a request of its own."""

    request: CompletionRequest
    tokens: int


def steps_of(asked: Asked, model_id: str, size: int, known: int = 0) -> Iterator[Step]:
    """Steps of `size` tokens, the last of which has the whole prompt. Each begins with the one before.

    A step may end within a message. It always ends with a user's: some templates write an assistant's last message in
    another way than one that is followed by others.

    Args:
        asked: what is to be read.
        model_id: whose counts of the messages are used.
        size: of a step, in tokens; infinite would be one step.
        known: tokens that are read already.
    """
    whole = asked.prompt.window.tokens
    # What would be left for a last, small step is read with the one before.
    for tokens in range(size, whole - size // 2, size):
        if tokens > known:
            yield _step(asked, _beginning(asked, model_id, tokens), tokens)
    yield _step(asked, asked.request.messages, whole)


def _step(asked: Asked, messages: tuple[ChatMessage, ...], tokens: int) -> Step:
    """A request like the real one, but for its length; of its reply one token is asked for."""
    options = replace(asked.request.options, max_tokens=1)
    return Step(replace(asked.request, messages=messages, options=options, expected_prompt_tokens=tokens), tokens)


def _beginning(asked: Asked, model_id: str, tokens: int) -> tuple[ChatMessage, ...]:
    """The messages up to so many tokens; of the last one a part."""
    sizes = [stored.tokens.get(model_id) or asked.estimate(stored.counted) for stored in asked.prompt.stored]
    if len(sizes) < len(asked.request.messages):
        sizes.insert(0, asked.prompt.budget.base)
    messages: list[ChatMessage] = []
    for message, size in zip(asked.request.messages, sizes, strict=True):
        if size > tokens:
            part = message.content[: len(message.content) * tokens // size]
            if part:
                messages.append(ChatMessage(message.role, part))
            break
        messages.append(message)
        tokens -= size
    if not messages or messages[-1].role != "user":
        messages.append(ChatMessage("user", ""))
    return tuple(messages)
