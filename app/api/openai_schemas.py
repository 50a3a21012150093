"""The answers of /v1 as the OpenAPI document describes them. What is sent is made in openai_forms.py and its like."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class ErrorFacts(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """What went wrong and what to do next."""

    error: ErrorFacts


class Model(BaseModel):
    id: str = Field(examples=["ollama/gemma2:2b"])
    object: Literal["model"]
    created: int = Field(description="When this server was started: engines do not tell when a model was made.")
    owned_by: str = Field(description="The engine.")
    root: str = Field(description="The model's id; of an alias, of the model that it stands for.")
    max_model_len: int = Field(description="Tokens of prompt and reply together.")


class Models(BaseModel):
    object: Literal["list"]
    data: list[Model]


class PromptDetails(BaseModel):
    cached_tokens: int = Field(description="Tokens that the engine had read before; 0 where it does not tell.")
    audio_tokens: int


class CompletionDetails(BaseModel):
    reasoning_tokens: int = Field(description="Estimated from the lengths of reasoning and answer.")
    audio_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class FunctionCall(BaseModel):
    name: str
    arguments: str = Field(description="JSON, as the model wrote it.")


class ToolCall(BaseModel):
    id: str
    type: Literal["function"]
    function: FunctionCall


class ReplyMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(BaseModel):
    index: Literal[0]
    message: ReplyMessage
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str = Field(description="The id of the model that answered.")
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class TextChoice(BaseModel):
    index: int
    text: str
    logprobs: None
    finish_reason: FinishReason


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="With `base64`: 32-bit floats, little-endian.")


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ResponseObject(BaseModel):
    """Field by field as OpenAI's."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any]
