"""What programs send to the native API, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator

from app.api.openai_fields import StopText
from app.api.programs import Defaults, SentMessage
from app.engines.base import GenerationOptions, Role
from app.errors import NotSent, NotTaken, TooManyPrompts, TwoValues
from app.turn import readable

_T = TypeVar("_T")
_LONGEST_NAME: Final = 500
_PAIR: Final[tuple[Role, Role]] = ("user", "assistant")
_ITEM: Final = {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"prompt": {"type": "string"}}}]}
_PROMPTS: Final = {"type": "array", "items": _ITEM}

ModelName = Annotated[str, Field(max_length=_LONGEST_NAME)]
# A question and its answer; null: it has none.
Pair = Annotated[list[str | None], Field(min_length=2, max_length=2)]


class Earlier(BaseModel):
    """A message before this one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str


def _kind(part: object) -> str:
    return "Pair" if isinstance(part, list) else "Earlier"


# One or the other, so that what is wrong is said of what was meant.
Part = Annotated[Annotated[Earlier, Tag("Earlier")] | Annotated[Pair, Tag("Pair")], Discriminator(_kind)]


class Asked(BaseModel):
    """What all requests have in common."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())

    model: ModelName | None = Field(
        None, description="A model's id, name or alias. None: the default model.", examples=["gemma2:2b"]
    )
    model_alias: ModelName | None = Field(None, description="The same as `model`.")
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Upper bound of the reply, in tokens.", examples=[256]
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = Field(
        None, description="Texts at which the reply ends."
    )
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = Field(None, description="For the same reply again.")

    def check(self) -> None:
        """Refuse what would be dropped in silence.

        Raises:
            NotTaken: the first field that is not known.
            TwoValues: the model has two names that differ.
        """
        for name, value in (self.model_extra or {}).items():
            if value is not None:
                raise NotTaken(parameter=readable(name)[:100])
        self.named_model()

    def named_model(self) -> str:
        """The model that is asked for; empty: none."""
        return one_of("model", self.model or None, "model_alias", self.model_alias or None) or ""

    def generation(self, defaults: Defaults, *, think: bool = False) -> GenerationOptions:
        """How the reply is sampled."""
        return GenerationOptions(
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=defaults.top_p if self.top_p is None else self.top_p,
            max_tokens=self.max_tokens or defaults.max_tokens,
            think=think,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            seed=self.seed,
        )


class AskedOnce(Asked):
    """What requests for one reply have in common."""

    needed: ClassVar[str]

    message: str | None = None
    prompt: str | None = None
    stream: bool | None = Field(None, description="The reply as server-sent events, as it is written.")

    def text(self) -> str:
        """What is asked.

        Raises:
            NotSent: nothing is.
            TwoValues: two texts are.
        """
        text = one_of("message", self.message, "prompt", self.prompt)
        if text is None:
            raise NotSent(parameter=self.needed)
        return text


class ChatRequest(AskedOnce):
    """The body of POST /api/chat."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"message": "Why is the sky blue?"},
                {
                    "message": "And at sunset?",
                    "model": "gemma2:2b",
                    "history": [
                        {"role": "user", "content": "Why is the sky blue?"},
                        {"role": "assistant", "content": "Air scatters blue light most."},
                    ],
                    "max_tokens": 256,
                    "stream": True,
                },
            ]
        }
    )
    needed = "message"

    message: str | None = Field(None, description="What is asked. Needed, under this name or as `prompt`.")
    prompt: str | None = Field(None, description="The same as `message`.")
    history: list[Part] | None = Field(
        None, description="The conversation before, oldest first: messages, or pairs of a question and its answer."
    )
    system: str | None = Field(None, description="The system prompt. None: there is none.")
    system_prompt: str | None = Field(None, description="The same as `system`.")
    think: bool | None = Field(None, description="Whether to reason before the answer, where the model can.")
    context: Literal["window", "strict"] | None = Field(
        None,
        description="A conversation too long for the model is read from a later message on (`window`), or refused "
        "(`strict`).",
    )

    def check(self) -> None:
        """See `Asked`."""
        super().check()
        self.text()
        self._system()

    def conversation(self) -> list[SentMessage]:
        """The messages, the newest last."""
        system = self._system()
        said: list[tuple[Role, str | None]] = [("system", system or None)]
        for part in self.history or ():
            said += [(part.role, part.content)] if isinstance(part, Earlier) else zip(_PAIR, part, strict=True)
        return [SentMessage(role, text) for role, text in [*said, ("user", self.text())] if text is not None]

    def _system(self) -> str | None:
        return one_of("system", self.system, "system_prompt", self.system_prompt)


class ForwardRequest(AskedOnce):
    """The body of POST /api/forward."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "Once upon a time", "max_tokens": 64}]})
    needed = "prompt"

    message: str | None = Field(None, description="The same as `prompt`.")
    prompt: str | None = Field(
        None, description="The text that the model goes on with. Needed, under this name or as `message`."
    )


class BatchRequest(Asked):
    """The body of POST /api/forward_batch; a list alone is taken for `prompts`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompts": ["Once upon a time", "The sea"], "max_tokens": 64}]}
    )

    # What is wrong with one of them is said in its own result.
    prompts: Annotated[list[Any], WithJsonSchema(_PROMPTS)] = Field(
        description='Texts, each alone or as `{"prompt": ...}`.'
    )

    @model_validator(mode="before")
    @classmethod
    def _list_alone(cls, value: Any) -> Any:
        return {"prompts": value} if isinstance(value, list) else value

    def texts(self, most: int) -> Sequence[str | NotTaken | TwoValues]:
        """The prompts; in place of one that is none, why.

        Raises:
            NotSent: there is none.
            TooManyPrompts: there are more than `most`.
        """
        if not self.prompts:
            raise NotSent(parameter="prompts")
        if len(self.prompts) > most:
            raise TooManyPrompts(count=len(self.prompts), limit=most)
        return [_text_of(item, f"prompts[{number}]") for number, item in enumerate(self.prompts)]


def _text_of(item: object, place: str) -> str | NotTaken | TwoValues:
    if isinstance(item, str):
        return item
    named = {"prompt", "message"}
    if not isinstance(item, dict) or not item.keys() <= named or not all(isinstance(v, str) for v in item.values()):
        return NotTaken(parameter=place)
    texts = set(item.values())
    if len(texts) == 1:
        return str(texts.pop())
    return TwoValues(parameter=f"{place}.prompt", other=f"{place}.message") if texts else NotTaken(parameter=place)


def one_of(name: str, value: _T | None, other_name: str, other: _T | None) -> _T | None:
    """What is sent under one of two names of one thing.

    Raises:
        TwoValues: it is sent under both, and differs.
    """
    if value is not None and other is not None and value != other:
        raise TwoValues(parameter=name, other=other_name)
    return other if value is None else value
