"""The answers of the native API as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "length"]


class NativeError(BaseModel):
    """What went wrong and what to do next."""

    detail: str = Field(examples=["There is no model `gemma` here. Available: `ollama/gemma2:2b`."])
    code: str = Field(description="For programs.", examples=["model_not_found"])


class Written(BaseModel):
    """What a model wrote."""

    model_config = ConfigDict(protected_namespaces=())

    status: Literal["success"]
    prompt: str = Field(description="What was asked.")
    response: str = Field(examples=["Air scatters blue light most."])
    reasoning: str | None = Field(None, description="What the model thought before; only where it did.")
    model: str = Field(description="The id of the model that answered.", examples=["ollama/gemma2:2b"])
    finish_reason: FinishReason = Field(description="`length`: the reply was cut.")
    prompt_tokens: int = Field(examples=[17])
    response_tokens: int = Field(examples=[42])
    total_tokens: int = Field(examples=[59])
    generation_time_ms: float = Field(
        description="From the request to the end of the reply, waiting included.", examples=[2410.5]
    )
    time_to_first_token_ms: float | None = Field(
        description="From the request to the first piece of text; null: there was none, or several prompts were "
        "generated together.",
        examples=[310.2],
    )


class NativeReply(Written):
    """A reply."""

    request_id: str = Field(description="As the log has it.")
    timestamp: str = Field(description="When it ended, ISO 8601, UTC.", examples=["2026-11-21T12:00:00.000+00:00"])


class Failed(BaseModel):
    """A prompt of a batch that has no reply."""

    status: Literal["error"]
    prompt: str | None = Field(description="null: it was none.")
    detail: str = Field(description="What went wrong and what to do next.")
    code: str


class Batch(BaseModel):
    """What came of several prompts, in their order."""

    status: Literal["success", "partial", "error"] = Field(description="Of all prompts, of some, of none.")
    request_id: str
    results: list[Written | Failed]
    succeeded: int
    failed: int
    prompt_tokens: int
    response_tokens: int
    total_tokens: int
    generation_time_ms: float
    timestamp: str


class ListedModel(BaseModel):
    """A model that can be asked here. null: its engine does not tell."""

    id: str = Field(description="Unique here.", examples=["ollama/gemma2:2b"])
    name: str = Field(description="By its engine.", examples=["gemma2:2b"])
    aliases: list[str] = Field(description="More names for it.")
    engine: str = Field(examples=["ollama"])
    default: bool = Field(description="Whether it answers where a request names none.")
    loaded: bool | None = Field(description="Whether it is in memory now.")
    size: int | None = Field(description="Bytes on disk.")
    parameters: str | None = Field(examples=["2.6B"])
    family: str | None = Field(examples=["gemma2"])
    quantization: str | None = Field(examples=["Q4_0"])
    context_length: int = Field(description="Tokens of prompt and reply together that it is given here.")
    max_context_length: int | None = Field(description="What it could be given.")
    can_chat: bool
    plain_template: bool = Field(description="It has no chat template of its own: a plain one stands in for it.")
    can_think: bool
    can_use_tools: bool | None
    can_embed: bool | None


class ListedModels(BaseModel):
    models: list[ListedModel]
    default: str | None = Field(description="The id of the default model; null: none can answer yet.")


class TagDetails(BaseModel):
    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str


class Tag(BaseModel):
    """A model in the words of Ollama's /api/tags. What is not known is empty or null."""

    name: str
    model: str
    modified_at: str | None
    size: int | None
    digest: str
    details: TagDetails


class Tags(BaseModel):
    models: list[Tag]


class Versions(BaseModel):
    """Of the parts that answer. null: it is away, or does not tell."""

    model_config = ConfigDict(extra="allow")

    app: str
    python: str
    chainlit: str


class Limits(BaseModel):
    """What a request may ask for."""

    max_tokens: int = Field(description="Of a reply where a request does not say.")
    context_length: int = Field(description="Tokens of prompt and reply together, of models that could take more.")
    max_message_bytes: int
    max_body_bytes: int
    max_batch: int = Field(description="Prompts of one batch.")
    max_waiting: int = Field(description="Requests that may wait for an engine.")
    max_waiting_each: int = Field(description="Of them, those of one visitor, key or address.")
    max_wait: float = Field(description="Seconds that a request may wait.")
    rate_limit: str | None = Field(description="Requests in a time; null: any number.")


class Metadata(BaseModel):
    """What this server is."""

    service: Literal["chainlit-ollama"]
    version: str
    versions: Versions
    default_model: str | None
    device: str | None = Field(description="Where transformers runs models; null: it is not installed.")
    limits: Limits
    endpoints: list[str] = Field(examples=[["POST /api/chat"]])


class Spread(BaseModel):
    """null: there is nothing to count."""

    median: float | None
    p95: float | None


class Figures(BaseModel):
    """What some replies took together."""

    replies: int
    by_outcome: dict[str, int] = Field(examples=[{"finished": 9, "stopped": 1, "failed": 0}])
    by_source: dict[str, int] = Field(examples=[{"page": 4, "api": 1, "v1": 5}])
    prompt_tokens: int
    response_tokens: int
    total_tokens: int
    time_to_first_token_ms: Spread
    total_time_ms: Spread = Field(description="Of finished replies.")
    tokens_per_second: Spread


class Period(BaseModel):
    all: Figures
    models: dict[str, Figures] = Field(description="By the models' ids.")


class Stats(BaseModel):
    """What this server has answered lately."""

    timestamp: str
    started_at: str
    uptime_seconds: float
    remembered: int = Field(description="Replies that the figures may be made of, at most STATS_REPLIES.")
    last_hour: Period
    last_day: Period
    configuration: dict[str, Any]
