"""What Ollama writes, made values: its lists of models, its vectors, the lines of a download.

Source: https://docs.ollama.com/api; what is left out of a line when it is zero or empty was seen in recordings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from app.engines.base import ModelInfo, Progress
from app.engines.ollama_errors import LABEL, error_words, not_ollama
from app.errors import EngineFailed

# A line of a model's parameters, as its Modelfile has them: `stop   "<end_of_turn>"`.
_STOP: Final = re.compile(r'^stop\s+(".*")$', re.MULTILINE)


class _Details(BaseModel):
    format: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    context_length: int | None = None


class _Tag(BaseModel):
    """A model on disk. `capabilities` is missing from servers older than 0.7."""

    name: str
    size: int | None = None
    digest: str = ""
    modified_at: str = ""
    details: _Details = _Details()
    capabilities: list[str] | None = None


class Tags(BaseModel):
    """The answer of /api/tags."""

    models: list[_Tag] | None = None

    def infos(self, engine: str, loaded: Mapping[str, int | None] | None) -> list[ModelInfo]:
        """The models. What a server does not tell of their capabilities may be tried.

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
                can_chat=tag.capabilities is None or "completion" in tag.capabilities,
                can_think="thinking" in (tag.capabilities or ()),
                can_embed=None if tag.capabilities is None else "embedding" in tag.capabilities,
                can_use_tools=None if tag.capabilities is None else "tools" in tag.capabilities,
                loaded=None if loaded is None else tag.name in loaded,
                format=tag.details.format,
                digest=tag.digest,
                modified_at=tag.modified_at,
            )
            for tag in self.models or ()
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
    """The answer of /api/show.

    Attributes:
        model_info: the numbers in the model's file, such as `gemma2.block_count`.
        parameters: the model's own options, a line each.
    """

    model_config = ConfigDict(protected_namespaces=())

    model_info: dict[str, Any] = {}
    parameters: str = ""

    def stops(self) -> tuple[str, ...]:
        """The texts at which the model's replies end. A request that names others takes their place."""
        return tuple(str(json.loads(quoted)) for quoted in _STOP.findall(self.parameters))


class Vectors(BaseModel):
    """The answer of /api/embed. `prompt_eval_count`: tokens of all texts."""

    embeddings: list[list[float]]
    prompt_eval_count: int | None = None


class _PullLine(BaseModel):
    """A line of a download. Sizes in bytes; `completed` is left out while it is zero."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0


_Answer = TypeVar("_Answer", Tags, Running, Version, Show, Vectors)


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
        found = line_of(line)
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


def line_of(line: bytes) -> dict[str, Any]:
    """A line of a stream.

    Raises:
        EngineFailed: it is no JSON object.
    """
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
