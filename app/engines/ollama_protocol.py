"""What Ollama writes, made values: its lists of models, the lines of a reply and of a download.

Source: https://docs.ollama.com/api; what is left out of a line when it is zero or empty was seen in recordings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from app.engines.base import Delta, Done, ModelInfo, Progress, Usage
from app.engines.ollama_errors import LABEL, error_words, failure, not_ollama
from app.engines.reasoning import ThinkSplitter
from app.errors import EngineFailed

_SECONDS: Final = 1e-9


class _Details(BaseModel):
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int | None = None


class _Tag(BaseModel):
    """A model on disk. `capabilities` is missing from servers older than 0.7."""

    name: str
    size: int | None = None
    details: _Details = _Details()
    capabilities: list[str] | None = None


class Tags(BaseModel):
    """The answer of /api/tags."""

    models: list[_Tag] | None = None

    def chat_models(self, engine: str, loaded: Mapping[str, int | None] | None) -> list[ModelInfo]:
        """The models that can hold a conversation: all but those for embeddings only.

        Args:
            engine: the engine's name.
            loaded: as `Running.contexts`; None: not known.
        """
        return [
            ModelInfo(
                engine=engine,
                name=tag.name,
                size=tag.size,
                parameters=tag.details.parameter_size,
                family=tag.details.family,
                quantization=tag.details.quantization_level,
                context_length=tag.details.context_length,
                can_think="thinking" in (tag.capabilities or ()),
                loaded=None if loaded is None else tag.name in loaded,
            )
            for tag in self.models or ()
            if tag.capabilities is None or "completion" in tag.capabilities
        ]


class _RunningModel(BaseModel):
    name: str
    context_length: int | None = None


class Running(BaseModel):
    """The answer of /api/ps."""

    models: list[_RunningModel] | None = None

    def contexts(self) -> dict[str, int | None]:
        """The models in memory with their context length in tokens, None where the server does not tell."""
        return {model.name: model.context_length for model in self.models or ()}


class Version(BaseModel):
    """The answer of /api/version."""

    version: str


class Show(BaseModel):
    """The answer of /api/show. `model_info`: the numbers in the model's file, such as `gemma2.block_count`."""

    model_config = ConfigDict(protected_namespaces=())

    model_info: dict[str, Any] = {}


class _LastLine(BaseModel):
    """The line that ends a reply. Durations in nanoseconds; zero counts are left out."""

    done_reason: str = ""
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


class _PullLine(BaseModel):
    """A line of a download. Sizes in bytes; `completed` is left out while it is zero."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0


_Answer = TypeVar("_Answer", Tags, Running, Version, Show)


def answer(kind: type[_Answer], body: bytes) -> _Answer:
    """The body of an answer as what it should be.

    Raises:
        EngineError: it is not; another program answers.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        raise not_ollama(body.decode("utf-8", "replace")) from None


def full_name(model: str) -> str:
    """A model's name with its tag, which is `latest` where none is given (Ollama's rule)."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


class ReplyReader:
    """Reads the lines of one reply.

    Args:
        model: named in errors.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._splitter = ThinkSplitter()
        self._last: dict[str, Any] | None = None
        self.lines = 0

    @property
    def ended(self) -> bool:
        """Whether the line that ends a reply has come."""
        return self._last is not None

    def feed(self, line: bytes) -> list[Delta]:
        """The text in a line, reasoning and answer told apart.

        Raises:
            EngineError: the line is an error, or not a line of a reply.
        """
        found = _object(line)
        if "error" in found:
            raise failure(error_words(found["error"]), self._model)
        self.lines += 1
        message = found.get("message")
        deltas: list[Delta] = []
        if isinstance(message, dict):
            if thinking := message.get("thinking"):
                deltas.append(Delta(str(thinking), "reasoning"))
            if content := message.get("content"):
                deltas += self._splitter.feed(str(content))
        if found.get("done"):
            self._last = found
        return deltas

    def held_back(self) -> list[Delta]:
        """The reply is at its end: text that could have been the beginning of a tag until now."""
        return self._splitter.flush()

    def done(self, *, loading: float, reading: float, writing: float) -> Done:
        """The end of the reply.

        Without a last line it was ended by Ollama's guard against more than 30 equal tokens in a row, which says
        neither so nor any count (recorded: repetition_guard); each line was a token.

        Args:
            loading, reading, writing: seconds by our own clock. `loading` was asked for apart and always counts;
                the others only where Ollama gives none.

        Raises:
            EngineFailed: the last line is not one.
        """
        if self._last is None:
            return Done("repetition", Usage(None, self.lines, loading, reading, writing))
        try:
            last = _LastLine.model_validate(self._last)
        except ValidationError:
            raise EngineFailed(engine=LABEL, detail="it ended a reply with a line that makes no sense") from None
        usage = Usage(
            prompt_tokens=last.prompt_eval_count,
            reply_tokens=last.eval_count,
            load_seconds=loading + last.load_duration * _SECONDS,
            prompt_seconds=last.prompt_eval_duration * _SECONDS,
            generation_seconds=last.eval_duration * _SECONDS,
        )
        return Done("length" if last.done_reason == "length" else "stop", usage)


class PullReader:
    """Reads the lines of one download: adds up the layers of a model, each of which has a size of its own."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self.succeeded = False

    def feed(self, line: bytes) -> Progress | None:
        """How far it is after this line; None where that has not changed.

        Raises:
            EngineFailed: the line is an error, with Ollama's words, or not a line of a download.
        """
        found = _object(line)
        if "error" in found:
            raise EngineFailed(engine=LABEL, detail=error_words(found["error"]))
        try:
            step = _PullLine.model_validate(found)
        except ValidationError:
            raise EngineFailed(engine=LABEL, detail="it sent a line that makes no sense") from None
        self.succeeded = step.status == "success"
        if not step.digest:
            return None if self._layers else Progress(0, None)
        self._layers[step.digest] = step.completed, step.total
        completed, total = (sum(part) for part in zip(*self._layers.values(), strict=True))
        return Progress(completed, total or None)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except ValueError:
        found = _lenient(line)
    if not isinstance(found, dict):
        raise EngineFailed(engine=LABEL, detail="it sent a line that is not an object")
    return found


def _lenient(line: bytes) -> Any:
    """Python's own takes half a surrogate pair, too."""
    try:
        return json.loads(line)
    except ValueError:
        raise EngineFailed(engine=LABEL, detail="it sent a line that is not JSON") from None
