"""What a client may ask of /api/chat, /api/generate and /api/embed, and how Ollama refuses what it cannot read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tests.fakes.exchange import Refused
from tests.fakes.models import FakeModel, Library, full_name
from tests.fakes.words import prompt_of, tokens_of

Purpose = Literal["chat", "generate", "embed"]

_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_INTEGERS: Final = ("num_ctx", "num_batch", "num_thread", "num_predict", "num_keep", "seed", "top_k", "repeat_last_n")
_FLOATS: Final = ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")


@dataclass(frozen=True)
class RunnerOptions:
    """What cannot be changed without loading the model again. The defaults are Ollama's."""

    num_ctx: int = 4096
    num_batch: int = 512
    num_thread: int = 0


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that is understood.

    Attributes:
        name: of the model, as it was asked for.
        model: the model.
        purpose: the path's last part.
        messages: role and content of each; of /api/generate the one that its prompt makes.
        runner: what the model has to be loaded with.
        num_predict: most tokens to write; zero or less: no bound.
        keep_alive: seconds that the model stays in memory afterwards, infinite for ever; None: not said.
        stream, think, truncate, shift: as sent, or Ollama's defaults.
        tools: the functions that the model may ask for.
        format: "json", a JSON Schema, or None.
        stop: texts at which the reply ends.
        raw: the prompt is read without a template.
    """

    name: str
    model: FakeModel
    purpose: Purpose
    messages: tuple[Mapping[str, Any], ...]
    runner: RunnerOptions
    num_predict: int
    keep_alive: float | None
    stream: bool
    think: bool
    truncate: bool
    shift: bool
    tools: tuple[Mapping[str, Any], ...] = ()
    format: str | Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()
    raw: bool = False

    def prompt(self) -> list[str]:
        """The tokens that the model reads; the functions first."""
        if self.raw:
            return ["<bos>", *tokens_of(self.messages[-1]["content"])]
        tools = tokens_of(json.dumps(self.tools)) if self.tools else []
        bos, *rest = prompt_of(self.messages)
        return [bos, *tools, *rest]

    @property
    def unloads(self) -> bool:
        """Whether it only asks to unload the model."""
        return not self.messages and self.keep_alive == 0


def understand(body: Mapping[str, Any], library: Library, purpose: Purpose = "chat") -> ChatRequest:
    """Read the body of a request.

    Raises:
        Refused: with Ollama's words, in its order of checks.
    """
    keep_alive = _keep_alive(body.get("keep_alive"))
    name = body.get("model") or ""
    if not name:
        raise Refused(400, "model is required")
    if name not in library:
        raise Refused(404, f"model '{name}' not found")
    model = library[name]
    if purpose != "embed" and "completion" not in model.capabilities:
        raise Refused(400, f'"{name}" does not support {purpose}')
    if body.get("think") and "thinking" not in model.capabilities:
        raise Refused(400, f'"{name}" does not support thinking')
    if body.get("tools") and "tools" not in model.capabilities:
        raise Refused(400, f"registry.ollama.ai/library/{full_name(name)} does not support tools")
    options = body.get("options") or {}
    _check(options)
    chosen = {key: int(options[key]) for key in ("num_ctx", "num_batch", "num_thread") if key in options}
    chosen["num_ctx"] = min(chosen.get("num_ctx", RunnerOptions.num_ctx), model.maximum)
    messages = body.get("messages") or ()
    if purpose == "generate" and body.get("prompt"):
        messages = [{"role": "user", "content": body["prompt"]}]
    return ChatRequest(
        name=name,
        model=model,
        purpose=purpose,
        messages=tuple(messages),
        runner=RunnerOptions(**chosen),
        num_predict=int(options.get("num_predict", -1)),
        keep_alive=keep_alive,
        stream=body.get("stream", True) is not False,
        think=bool(body.get("think")),
        truncate=body.get("truncate", True) is not False,
        shift=body.get("shift", True) is not False,
        tools=tuple(body.get("tools") or ()),
        format=body.get("format") or None,
        stop=tuple(options.get("stop") or ()),
        raw=bool(body.get("raw")),
    )


def _check(options: Mapping[str, Any]) -> None:
    """Recorded for an integer; for a float by Ollama's source. Unknown options are ignored."""
    for key, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in _INTEGERS and not number:
            raise Refused(500, f'option "{key}" must be of type integer')
        if key in _FLOATS and not number:
            raise Refused(500, f'option "{key}" must be of type float32')
        if key == "stop" and not isinstance(value, list):
            raise Refused(500, f'option "{key}" must be of type array')


def _keep_alive(value: Any) -> float | None:
    """Seconds; infinite for a negative value. Text is read as Go's time.ParseDuration does."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if value >= 0 else math.inf
    if not isinstance(value, str):
        raise Refused(400, f"Unsupported type: '{type(value).__name__}'")
    amount = value.removeprefix("-").removeprefix("+")
    parts = _DURATION.findall(amount)
    if amount == "0":
        return 0.0
    if not parts or "".join(number + unit for number, unit in parts) != amount:
        bare = re.fullmatch(r"\d+(\.\d*)?", amount)
        raise Refused(400, f'time: {"missing unit in" if bare else "invalid"} duration "{value}"')
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return math.inf if value.startswith("-") else seconds
