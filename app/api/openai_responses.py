"""What programs send to /v1/responses: the subset that a text chat needs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.openai_fields import (
    Content,
    Effort,
    FunctionName,
    JsonObject,
    JsonObjectFormat,
    NamedFunction,
    NamedSchema,
    Request,
    Text,
    TextFormat,
    TopP,
    text_of,
)
from app.api.openai_requests import ROLES, thinks
from app.api.programs import Defaults, SentMessage
from app.engines.base import GenerationOptions, JsonFormat, ToolCall
from app.errors import NotTaken


class Item(BaseModel):
    """A message, a call of a function or what it returned; an earlier reply's reasoning is passed over."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content = None
    call_id: Text | None = None
    name: Text | None = None
    arguments: Text | None = None
    output: Content = None


class FunctionTool(BaseModel):
    """A function that the model may ask for."""

    model_config = ConfigDict(strict=True)

    type: Literal["function"]
    name: FunctionName
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ChosenTool(NamedFunction):
    type: Literal["function"]


class SchemaFormat(NamedSchema):
    type: Literal["json_schema"]


class TextOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: TextFormat | JsonObjectFormat | SchemaFormat | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(BaseModel):
    """`summary` is ignored: reasoning is given as it is."""

    model_config = ConfigDict(extra="ignore", strict=True)

    effort: Effort | None = None


class ResponseRequest(Request):
    """The body of POST /v1/responses. Nothing is stored: `store` is ignored, `previous_response_id` refused."""

    input: str | Annotated[list[Item], Field(min_length=1)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: TopP | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = Field(None, description="Ignored.")
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="`disabled`: a conversation too long for the model is refused, as by `context: strict`."
    )
    context: Literal["window", "strict"] | None = None

    @property
    def strict(self) -> bool:
        return self.context == "strict" or (self.context is None and self.truncation == "disabled")

    def generation(self, defaults: Defaults) -> GenerationOptions:
        """How the reply is sampled."""
        choice = self.tool_choice
        return GenerationOptions(
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=defaults.top_p if self.top_p is None else self.top_p,
            max_tokens=self.max_output_tokens or defaults.max_tokens,
            think=thinks(None, self.reasoning.effort if self.reasoning else None),
            json=self._json(),
            tools=tuple(_nested(tool) for tool in self.tools or ()),
            tool_choice={"type": "function", "function": {"name": choice.name}}
            if isinstance(choice, ChosenTool)
            else choice,
        )

    def _json(self) -> JsonFormat | None:
        wanted = self.text.format if self.text else None
        if isinstance(wanted, SchemaFormat):
            return JsonFormat(wanted.json_schema, wanted.name)
        return JsonFormat() if isinstance(wanted, JsonObjectFormat) else None

    def conversation(self) -> list[SentMessage]:
        """The messages, `instructions` first.

        Raises:
            NotTaken: an item is none of those that are taken.
        """
        messages = [SentMessage("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            return [*messages, SentMessage("user", self.input)]
        for number, item in enumerate(self.input):
            place = f"input[{number}]"
            match item.type:
                case "message" if item.role is not None:
                    messages.append(SentMessage(ROLES[item.role], text_of(item.content, f"{place}.content")))
                case "function_call" if item.call_id and item.name:
                    call = ToolCall(item.call_id, item.name, item.arguments or "{}")
                    _add_call(messages, call)
                case "function_call_output" if item.call_id:
                    output = text_of(item.output, f"{place}.output")
                    messages.append(SentMessage("tool", output, tool_call_id=item.call_id))
                case "reasoning":
                    pass
                case _:
                    raise NotTaken(parameter=place)
        return messages


def _nested(tool: FunctionTool) -> dict[str, Any]:
    """The function as chat completions have it."""
    described = tool.model_dump(exclude_none=True)
    return {"type": described.pop("type"), "function": described}


def _add_call(messages: list[SentMessage], call: ToolCall) -> None:
    """A call belongs to what the assistant said just before it, if it did."""
    last = messages[-1] if messages else None
    if last is not None and last.role == "assistant":
        messages[-1] = SentMessage("assistant", last.text, (*last.tool_calls, call))
    else:
        messages.append(SentMessage("assistant", "", (call,)))
