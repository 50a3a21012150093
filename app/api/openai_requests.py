"""What programs send to /v1, as OpenAI's API has it, and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.api.openai_fields import (
    Effort,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    NamedTool,
    Request,
    StopText,
    StreamOptions,
    TextFormat,
    Tool,
    TopP,
    text_of,
)
from app.api.programs import Defaults, SentMessage
from app.engines.base import GenerationOptions, JsonFormat, Role, ToolCall
from app.errors import NotTaken, TooManyPrompts
from app.turn import readable

ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
# OpenAI's limit.
_MOST_TEXTS: Final = 2048


class Sampled(Request):
    """What requests for text have in common."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: TopP | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    context: Literal["window", "strict"] | None = Field(
        None,
        description="Ours: a conversation too long for the model is read from a later message on (`window`), or "
        "refused (`strict`).",
    )

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, defaults: Defaults, *, max_tokens: int | None, **more: Any) -> GenerationOptions:
        """How the reply is sampled."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return GenerationOptions(
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=defaults.top_p if self.top_p is None else self.top_p,
            max_tokens=max_tokens or defaults.max_tokens,
            stop=stop,
            seed=self.seed,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            **more,
        )


class ChatCompletionRequest(Sampled):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = Field(None, description="`none`: no reasoning; else reasoning where it can.")
    think: bool | None = Field(None, description="Ours, as in Ollama: whether to reason, where the model can.")

    def generation(self, defaults: Defaults) -> GenerationOptions:
        """How the reply is sampled."""
        choice = self.tool_choice
        return self.sampling(
            defaults,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            think=thinks(self.think, self.reasoning_effort),
            json=self._json(),
            tools=tuple(tool.model_dump(exclude_none=True) for tool in self.tools or ()),
            tool_choice=choice.model_dump() if isinstance(choice, NamedTool) else choice,
        )

    def _json(self) -> JsonFormat | None:
        wanted = self.response_format
        if isinstance(wanted, JsonSchemaFormat):
            return JsonFormat(wanted.json_schema.json_schema, wanted.json_schema.name)
        return JsonFormat() if isinstance(wanted, JsonObjectFormat) else None

    def conversation(self) -> list[SentMessage]:
        """The messages.

        Raises:
            NotTaken: a part of one is not text.
        """
        for number, message in enumerate(self.messages):
            message.check(f"messages[{number}]")
        return [
            SentMessage(
                ROLES[message.role],
                text_of(message.content, f"messages[{number}].content"),
                tuple(
                    ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
                ),
                message.tool_call_id or "",
            )
            for number, message in enumerate(self.messages)
        ]


class CompletionRequest(Sampled):
    """The body of POST /v1/completions."""

    prompt: str | list[Any]

    def texts(self, most: int) -> list[str]:
        """The prompts, at least one; a stream has one alone.

        Args:
            most: how many are taken.

        Raises:
            NotTaken: some of it is tokens, or there is nothing.
            TooManyPrompts: there are more.
        """
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not texts or not all(isinstance(text, str) for text in texts) or (self.stream and len(texts) > 1):
            raise NotTaken(parameter="prompt")
        if len(texts) > most:
            raise TooManyPrompts(count=len(texts), limit=most)
        return texts


class EmbeddingRequest(Request):
    """The body of POST /v1/embeddings."""

    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None

    def texts(self) -> list[str]:
        """The texts.

        Raises:
            NotTaken: some of it is tokens, or there is nothing, or too much.
        """
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not 0 < len(texts) <= _MOST_TEXTS or not all(isinstance(text, str) and text.strip() for text in texts):
            raise NotTaken(parameter="input")
        return [readable(text) for text in texts]


def thinks(think: bool | None, effort: str | None) -> bool:
    """Whether reasoning is asked for; it is not unless somebody says so."""
    return think if think is not None else effort not in (None, "none")
