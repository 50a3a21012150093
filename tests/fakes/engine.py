"""An engine for tests of what stands above engines: it says what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from app.engines.base import (
    CompletionRequest,
    Delta,
    Done,
    Embeddings,
    EngineEvent,
    Feature,
    ModelInfo,
    Reading,
    ToolCall,
    ToolCalls,
    Usage,
)
from app.errors import EngineError, PromptTooLong


class ScriptedEngine:
    """Counts tokens as words, and answers each request with the next reply of its script, up to its bound.

    Args:
        replies: texts, and calls of functions after them; an EngineError is raised instead of, or after, what came
            before it in the tuple.
        context: its context length in tokens; a longer prompt is refused with its exact size.

    Attributes:
        in_memory: the models that are; None: it does not tell.
        only_embed: its models that cannot chat.
    """

    def __init__(
        self,
        *replies: str | EngineError | tuple[str | ToolCall | EngineError, ...],
        name: str = "ollama",
        models: Sequence[str] = ("gemma2:2b",),
        context: int = 4096,
        can_think: bool = False,
    ) -> None:
        self.name = name
        self.label = name.capitalize()
        self.slots = 1
        self.replies = list(replies)
        self.names = list(models)
        self.context = context
        self.can_think = can_think
        self.requests: list[CompletionRequest] = []
        self.closed = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.problem: EngineError | None = None
        self.in_memory: set[str] | None = None
        self.features: frozenset[Feature] = frozenset()
        self.embeds = False
        self.only_embed: set[str] = set()
        self.uses_tools: bool | None = False

    async def models(self) -> Sequence[ModelInfo]:
        if self.problem is not None:
            raise self.problem
        return [
            ModelInfo(
                self.name,
                name,
                context_length=self.context,
                can_chat=name not in self.only_embed,
                can_think=self.can_think,
                can_embed=self.embeds or name in self.only_embed,
                can_use_tools=self.uses_tools,
                loaded=None if self.in_memory is None else name in self.in_memory,
            )
            for name in self.names
        ]

    async def embed(self, model: str, texts: Sequence[str], context_length: int) -> Embeddings:
        """The number of words and of letters of each text."""
        vectors = tuple((float(len(text.split())), float(len(text))) for text in texts)
        return Embeddings(vectors, sum(len(text.split()) for text in texts))

    @staticmethod
    def size(request: CompletionRequest) -> int:
        """Tokens of a prompt: two for each word, three around each message."""
        return sum(2 * len(message.content.split()) + 3 for message in request.messages)

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        self.requests.append(request)
        tokens = self.size(request)
        if tokens > self.context:
            raise PromptTooLong(engine=self.label, tokens=tokens, limit=self.context)
        reply = self.replies.pop(0) if self.replies else "yes indeed"
        words = 0
        called = False
        try:
            yield Reading(seconds_left=1.0)
            for part in reply if isinstance(reply, tuple) else (reply,):
                if isinstance(part, EngineError):
                    raise part
                if isinstance(part, ToolCall):
                    yield ToolCalls((part,))
                    called = True
                    continue
                for word in part.split(" "):
                    if words == request.options.max_tokens:
                        yield Done("length", Usage(tokens, words, 0.0, tokens / 100, words / 10))
                        return
                    await self.go_on.wait()
                    yield Delta(word if words == 0 else f" {word}")
                    words += 1
            yield Done("tool_calls" if called else "stop", Usage(tokens, words, 0.0, tokens / 100, words / 10))
        finally:
            self.closed += 1

    async def count_tokens(self, model: str, text: str) -> int | None:
        return None

    async def load(self, model: str, context_length: int) -> None:
        return None

    async def close(self) -> None:
        return None
