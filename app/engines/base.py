"""What an engine is: one small interface for Ollama, OpenAI-compatible servers and transformers.

An engine is asked for a completion and answers with a stream of events, in this order:

    Loading*  Reading*  (Delta | ToolCalls)*  Done        or an EngineError raised at any point

Closing the stream (`aclose()`, or cancelling the task that reads it) ends the engine's work at once, in every phase.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, get_args, runtime_checkable

from app.errors import EngineError

Role = Literal["system", "user", "assistant", "tool"]
DeltaKind = Literal["answer", "reasoning"]
FinishReason = Literal["stop", "length", "repetition", "tool_calls"]
# What not every engine can honour: fields of GenerationOptions or values of one, text without a template (raw), and
# going on with an assistant's message.
Feature = Literal[
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "json_object",
    "json_schema",
    "tools",
    "tool_choice",
    "raw",
    "continue",
]
ALL_FEATURES: Final[frozenset[Feature]] = frozenset(get_args(Feature))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks for. `arguments` is JSON as text, as in OpenAI's API."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as a model reads it.

    Attributes:
        tool_calls: of an assistant's message: the functions that it asked for.
        tool_call_id, tool_name: of a tool's message: which call it answers, and of which function.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The reply is to be JSON: any object (`schema` None), or what a JSON Schema describes."""

    schema: Mapping[str, Any] | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How a reply is sampled.

    Attributes:
        temperature: 0 (greedy) to 1 in the page; engines accept up to 2.
        top_p: share of probability mass sampled from, in (0, 1].
        max_tokens: upper bound of the reply, in tokens, reasoning included; always sent.
        think: ask for reasoning; only ever true for a model whose `ModelInfo.can_think` is true.
        stop: texts at which the reply ends; they are not part of it.
        seed: for the same reply again; None: another each time.
        presence_penalty, frequency_penalty: -2 to 2, OpenAI's; 0: off.
        json: the form of the reply; None: free text.
        tools: functions that the model may ask for, as OpenAI's API describes them.
        tool_choice: OpenAI's; None: the model's own choice.
    """

    temperature: float = 0.2
    top_p: float = 0.9
    max_tokens: int = 1024
    think: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    json: JsonFormat | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None

    @property
    def offers_tools(self) -> bool:
        """Whether the model may ask for a function at all."""
        return bool(self.tools) and self.tool_choice != "none"

    def features(self) -> frozenset[Feature]:
        """What an engine must be able to do to honour these options."""
        wanted: dict[Feature, bool] = {
            "stop": bool(self.stop),
            "seed": self.seed is not None,
            "presence_penalty": bool(self.presence_penalty),
            "frequency_penalty": bool(self.frequency_penalty),
            "json_object": self.json is not None and self.json.schema is None,
            "json_schema": self.json is not None and self.json.schema is not None,
            "tools": self.offers_tools,
            "tool_choice": self.offers_tools and self.tool_choice not in (None, "auto"),
        }
        return frozenset(feature for feature, is_wanted in wanted.items() if is_wanted)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that an engine offers.

    Attributes:
        engine: the engine's name, the first part of `id`.
        name: the engine's own name of the model, e.g. `gemma2:2b`.
        size: bytes on disk, if known.
        parameters: as the engine words it, e.g. `2.6B`.
        context_length: the most tokens of prompt and reply together that it can take; None: not known.
        context_fixed: the server has set its context length, NUM_CTX has no say.
        can_chat: whether it can hold a conversation.
        can_think: whether it can produce reasoning before its answer.
        can_embed: whether it makes vectors of texts; None: not known, so it may be tried.
        can_use_tools: whether it can ask for functions; None: not known, so it may be tried.
        loaded: whether it is in memory now, if known.
        format: of its file, such as `gguf`; empty: not known.
        plain_template: it has no chat template, a plain one stands in for it.
        digest, modified_at: of its file, as Ollama writes them; empty: not known.
    """

    engine: str
    name: str
    size: int | None = None
    parameters: str = ""
    family: str = ""
    quantization: str = ""
    context_length: int | None = None
    context_fixed: bool = False
    can_chat: bool = True
    can_think: bool = False
    can_embed: bool | None = False
    can_use_tools: bool | None = False
    loaded: bool | None = None
    format: str = ""
    plain_template: bool = False
    digest: str = ""
    modified_at: str = ""

    @property
    def id(self) -> str:
        """`engine/name`, unique on this server."""
        return f"{self.engine}/{self.name}"


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What an engine is asked for.

    Attributes:
        model: the engine's own name of the model.
        messages: system (optional, first), then user and assistant in turns, the newest last. An assistant's message
            at the end is gone on with.
        context_length: tokens of prompt and reply together (num_ctx).
        conversation: names the conversation, so that an engine can find the key-value cache of its last turn.
        expected_prompt_tokens: an estimate for progress and time limits; 0 when unknown.
        held_tokens: of them, those that the engine is believed to have read before.
        raw: the one message's text is the prompt as it stands, without the chat template.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    options: GenerationOptions
    context_length: int
    conversation: str | None = None
    expected_prompt_tokens: int = 0
    # No part of what is asked for: the same request is the same, whatever is believed.
    held_tokens: int = field(default=0, compare=False)
    raw: bool = False

    @property
    def continues(self) -> bool:
        """Whether the last message is the assistant's, to be gone on with."""
        return not self.raw and self.messages[-1].role == "assistant"

    @property
    def uses_tools(self) -> bool:
        """Whether functions are offered, or were asked for and answered before."""
        return self.options.offers_tools or any(m.tool_calls or m.role == "tool" for m in self.messages)


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is being brought into memory. `seconds_left` is an estimate, None when there is nothing to go by."""

    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The model reads the prompt.

    Attributes:
        processed, total: tokens read so far and in all; both None where the engine does not tell.
        seconds_left: estimate, None when there is nothing to go by.
    """

    processed: int | None = None
    total: int | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the reply, never empty."""

    text: str
    kind: DeltaKind = "answer"


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Functions that the model asks for, each complete."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector for each text, in their order; `prompt_tokens` of all texts together, None when not counted."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a completion cost, as the engine counted it.

    Attributes:
        prompt_tokens: the whole prompt, cached tokens included; None when the engine did not say.
        cached_tokens: how many of them were not read again; None when unknown.
        reply_tokens: tokens generated, reasoning included; None when the engine did not say.
        load_seconds, prompt_seconds, generation_seconds: times of the three phases.
    """

    prompt_tokens: int | None
    reply_tokens: int | None
    load_seconds: float
    prompt_seconds: float
    generation_seconds: float
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The reply is complete. `repetition`: the engine ended it because it repeated itself."""

    finish_reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole completion, not streamed."""

    text: str
    done: Done


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is. `total` is None until it is known; both in bytes."""

    completed: int
    total: int | None


EngineEvent = Loading | Reading | Delta | ToolCalls | Done


class Engine(Protocol):
    """A program that runs models.

    Attributes:
        name: lower-case, the first part of every model id: `ollama`, `vllm`, `transformers`.
        label: what a user reads: `Ollama`, `vLLM`, `llama.cpp`, `transformers`.
        slots: how many completions it works on at once.
        features: what it can honour of what not every engine can.
    """

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def slots(self) -> int: ...

    @property
    def features(self) -> frozenset[Feature]: ...

    async def models(self) -> Sequence[ModelInfo]:
        """The models it offers now, those that only embed among them. Raises EngineError when it cannot be asked."""
        ...

    def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        """Stream one completion. Raises EngineError before the first delta or in the middle."""
        ...

    async def count_tokens(self, model: str, text: str) -> int | None:
        """Tokens of `text` by the model's own tokenizer, or None where it cannot be asked cheaply."""
        ...

    async def embed(self, model: str, texts: Sequence[str], context_length: int) -> Embeddings:
        """A vector for each text. Raises EngineError; a text longer than the context is refused, never cut."""
        ...

    async def load(self, model: str, context_length: int) -> None:
        """Bring the model into memory, with the very options that completions use. Raises EngineError."""
        ...

    async def close(self) -> None:
        """Give back connections, threads and memory."""
        ...


@runtime_checkable
class BatchEngine(Engine, Protocol):
    """An engine that generates several raw prompts together, faster than one after the other.

    Attributes:
        batch: how many.
    """

    @property
    def batch(self) -> int: ...

    async def complete_batch(self, requests: Sequence[CompletionRequest]) -> list[Completion | EngineError]:
        """What follows each prompt, in their order; what went wrong with one of them stands in its place.

        Args:
            requests: raw ones that differ in their prompts alone.

        Raises:
            EngineError: nothing could be generated at all.
        """
        ...


@runtime_checkable
class CachingEngine(Engine, Protocol):
    """An engine of which is known how much it keeps of what it has read: Ollama and llama.cpp.

    Attributes:
        keeps_prompts: whether that is so now. What answers at an address may turn out to be another server, and a model
            that is unloaded after each reply keeps nothing.
        moves_cache: what stays of a conversation whose beginning was cut is moved, not read again, as long as the
            conversation is in its slot (llama-server's cache_reuse).
    """

    @property
    def keeps_prompts(self) -> bool: ...

    @property
    def moves_cache(self) -> bool: ...

    def cache_room(self, model: str) -> int | None:
        """Tokens of conversations that it keeps ready beside those in its slots; None: plenty, or not known."""
        ...


@runtime_checkable
class VersionedEngine(Engine, Protocol):
    """An engine that tells its version."""

    async def version(self) -> str:
        """Raises EngineError when it cannot be asked."""
        ...
