"""Asking the transformers engine, and watching what its model does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from app.engines.base import ChatMessage, CompletionRequest, Delta, Done, GenerationOptions, Loading, Reading
from app.engines.local import LocalEngine


@dataclass
class Reply:
    """What came of a request."""

    text: str = ""
    reasoning: str = ""
    loadings: list[Loading] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    done: Done | None = None

    @property
    def end(self) -> Done:
        """How it ended; it has."""
        assert self.done is not None
        return self.done

    @property
    def cached(self) -> int:
        """Tokens of the prompt that were not read again."""
        assert self.end.usage.cached_tokens is not None
        return self.end.usage.cached_tokens

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        assert self.end.usage.prompt_tokens is not None
        return self.end.usage.prompt_tokens


def chat(*texts: str, system: str = "") -> tuple[ChatMessage, ...]:
    """Messages of user and assistant in turns, the user's first."""
    first = (ChatMessage("system", system),) if system else ()
    return first + tuple(ChatMessage("assistant" if at % 2 else "user", text) for at, text in enumerate(texts))


def request(
    model: str,
    *texts: str,
    conversation: str | None = "c",
    context_length: int = 4096,
    system: str = "",
    temperature: float = 0,
    max_tokens: int = 32,
    think: bool = False,
    raw: bool = False,
    **more: Any,
) -> CompletionRequest:
    """A greedy one, unless said otherwise. `more`: of GenerationOptions."""
    options = GenerationOptions(temperature=temperature, max_tokens=max_tokens, think=think, **more)
    return CompletionRequest(model, chat(*texts, system=system), options, context_length, conversation, raw=raw)


async def ask(engine: LocalEngine, asked: CompletionRequest) -> Reply:
    """The whole reply."""
    reply = Reply()
    async for event in engine.complete(asked):
        match event:
            case Loading():
                reply.loadings.append(event)
            case Reading():
                reply.readings.append(event)
            case Delta(text, "reasoning"):
                reply.reasoning += text
            case Delta(text):
                reply.text += text
            case Done():
                reply.done = event
    return reply


@contextmanager
def before_each_step(act: Callable[[], None]) -> Iterator[None]:
    """Call `act`, on the model's thread, whenever a model is about to read a piece of a prompt or write a token."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    def hook(module: Any, _: Any) -> None:
        if type(module).__name__ == "Qwen3ForCausalLM":
            act()

    handle = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
