"""The fields of requests to /v1 and what they are checked for, as OpenAI's API has them.

A field that is not known is refused by its name, unless its value says what happens anyway (`n: 1`, `logprobs: false`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.errors import NotTaken
from app.turn import readable

# Fields of OpenAI's that change nothing here: they serve its own bookkeeping, caching and billing.
IGNORED: Final = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
# Fields that cannot be honoured, with the values that need not be.
_HARMLESS: Final[Mapping[str, Sequence[object]]] = {
    "audio": (),
    "background": (False,),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "include": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "suffix": ("",),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}
# How deep JSON of a program's may be nested: schemas of functions and of replies.
_DEEPEST: Final = 64
_LINE: Final = "\n"
_LEAST_SHARE: Final = 1e-6


def _clean(value: Any, depth: int = 0) -> Any:
    """JSON that every engine takes: no NaN, nothing that is no text, not too deep."""
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST} levels")
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is none")
    if isinstance(value, dict):
        return {readable(str(key)): _clean(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_clean(part, depth + 1) for part in value]
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_clean)]
Text = Annotated[str, AfterValidator(readable)]
StopText = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(readable)]
# OpenAI takes 0; not all engines do. So small a share is always that of the likeliest token alone.
TopP = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda share: max(share, _LEAST_SHARE))]
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Part(BaseModel):
    """A part of a message's content. Text is taken."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: str
    text: str | None = None
    refusal: str | None = None


Content = str | list[Part] | None


class CalledFunction(BaseModel):
    model_config = ConfigDict(strict=True)

    name: Text
    arguments: Text = ""


class SentToolCall(BaseModel):
    """A call that the assistant made before."""

    model_config = ConfigDict(strict=True)

    id: Text
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(BaseModel):
    """A message. Of an earlier reply what is not here is ignored, such as `reasoning_content`; and `name` always."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = None
    tool_calls: list[SentToolCall] | None = None
    tool_call_id: str | None = None

    def check(self, place: str) -> None:
        """Refuse what is more than text. `place`: where it stands in the request."""
        for name in ("audio", "function_call", "images"):
            if (self.model_extra or {}).get(name):
                raise NotTaken(parameter=f"{place}.{name}")


class Function(BaseModel):
    model_config = ConfigDict(strict=True)

    name: FunctionName
    description: Text | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(BaseModel):
    """A function that the model may ask for."""

    model_config = ConfigDict(strict=True)

    type: Literal["function"]
    function: Function


class NamedFunction(BaseModel):
    model_config = ConfigDict(strict=True)

    name: FunctionName


class NamedTool(BaseModel):
    model_config = ConfigDict(strict=True)

    type: Literal["function"]
    function: NamedFunction


class NamedSchema(BaseModel):
    model_config = ConfigDict(strict=True, populate_by_name=True, serialize_by_alias=True)

    name: Text
    description: Text | None = None
    json_schema: JsonObject = Field(alias="schema")
    strict: bool | None = None


class TextFormat(BaseModel):
    model_config = ConfigDict(strict=True)

    type: Literal["text"]


class JsonObjectFormat(BaseModel):
    model_config = ConfigDict(strict=True)

    type: Literal["json_object"]


class JsonSchemaFormat(BaseModel):
    model_config = ConfigDict(strict=True)

    type: Literal["json_schema"]
    json_schema: NamedSchema


class StreamOptions(BaseModel):
    """`include_obfuscation` is ignored: no padding is sent."""

    model_config = ConfigDict(extra="ignore", strict=True)

    include_usage: bool | None = None


class Request(BaseModel):
    """What all requests have in common."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())

    model: Annotated[str, Field(min_length=1, max_length=500, description="A model's id, name or alias.")]

    def check(self) -> None:
        """Refuse what would be dropped in silence.

        Raises:
            NotTaken: the first field that cannot be honoured.
        """
        for name, value in (self.model_extra or {}).items():
            if value is None or name in IGNORED or any(_same(value, fine) for fine in _HARMLESS.get(name, ())):
                continue
            raise NotTaken(parameter=readable(name)[:100])


def text_of(content: Content, place: str) -> str:
    """The text of a message.

    Args:
        place: where it stands in the request.

    Raises:
        NotTaken: a part of it is not text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for number, part in enumerate(content):
        text = part.refusal if part.type == "refusal" else part.text
        if part.type not in ("text", "input_text", "output_text", "refusal") or text is None:
            raise NotTaken(parameter=f"{place}[{number}]")
        texts.append(text)
    return _LINE.join(texts)


def _same(value: object, fine: object) -> bool:
    """Equal, and of one type: `true` is not 1."""
    return type(value) is type(fine) and value == fine
