"""The failures of servers with OpenAI's API, each in its own words, made typed errors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from app.engines.openai_server import ServerKind
from app.errors import (
    ChatError,
    EngineError,
    EngineFailed,
    EngineRefused,
    ModelMissing,
    OutOfMemory,
    PromptTooLong,
    TextTooLong,
    Unsupported,
)

_SHOWN: Final = 200  # characters of a server's own words
_MEMORY: Final = ("out of memory", "failed to allocate", "unable to allocate", "not enough memory")
_MISSING: Final = ("model_not_found", "no such model", "is pinned to")

# vLLM (renderers/params.py and its predecessors) and LM Studio say the limit and, in other words from version to
# version, the size. vLLM stops counting at the limit, so its newer words hold but a bound.
_LIMIT: Final = re.compile(r"context length (?:is|of) (?:only )?(\d+) tokens")
_EXACT: Final = re.compile(
    r"(\d+) in the messages|request has (\d+) input tokens|keep the first (\d+) tokens|"
    r"requested (\d+) tokens in the input"
)
_AT_LEAST: Final = re.compile(r"contains at least (\d+) input tokens|You passed (\d+) input tokens")
# llama.cpp, of a text to embed: it has to fit one batch.
_TEXT_SIZES: Final = re.compile(r"input \((\d+) tokens\) is too large to process.*batch size: (\d+)")
_MORE_THAN: Final = re.compile(r"upper bound for (\d+) input tokens|input length of (\d+) tokens \(at most")


# What a server or its model cannot do, and OpenAI's name of what asked for it: llama.cpp, vLLM, Ollama.
_UNABLE: Final = {
    "does not support embeddings": "input",
    "not support embedding": "input",
    "does not support chat": "messages",
    "does not support completions api": "prompt",
    "does not support generate": "prompt",
    "does not support tools": "tools",
    "requires --jinja": "tools",
    "--enable-auto-tool-choice": "tools",
}
# `transformers serve` of a field that it does not know, and OpenAI's own word for one.
_UNEXPECTED: Final = re.compile(r"unexpected fields in the request: \{'(\w+)'")
_UNSUPPORTED: Final = ("unsupported_parameter", "unsupported_value")
# What a program may have asked for; other fields are our own.
_CHOSEN: Final = (
    "temperature", "top_p", "max_tokens", "stop", "seed", "presence_penalty", "frequency_penalty", "response_format",
    "tools", "tool_choice",
)  # fmt: skip


class StillLoading(EngineFailed):
    """The server has not loaded its model yet. Facts as of EngineFailed."""


class PromptLargerThan(PromptTooLong):
    """The server has not counted to the end: `tokens` is only a lower bound."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server says of a failure.

    Attributes:
        status: of HTTP; in mid-stream the error's own code.
        words: for the user.
        error: the fields of its JSON, if any.
    """

    status: int
    words: str
    error: dict[str, Any]

    @classmethod
    def read(cls, status: int, body: str) -> Refusal:
        """From an answer's body: `{"error": {...}}`, `{"error": "..."}`, `{"detail": ...}`, or a proxy's page."""
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            text = " ".join(body.split())
            page = not text or text.startswith("<")
            return cls(status, f"HTTP {status}" if page else text[:_SHOWN], {})
        error = found.get("error", found)
        if not isinstance(error, dict):
            error = {"message": error}
        words = error.get("message") or error.get("detail") or f"HTTP {status}"
        return cls(status, str(words)[:_SHOWN], error | {"message": str(words)})


def error_of(refusal: Refusal, kind: ServerKind, model: str) -> ChatError:
    """The error for what the server said.

    Args:
        kind: what answers there.
        model: that was asked for; empty when none was.
    """
    engine, words, status = kind.label, refusal.words, refusal.status
    said = f"{refusal.error.get('code')} {refusal.error.get('message', words)}".lower()
    if too_long := _too_long(refusal, engine):
        return too_long
    if parameter := _parameter(refusal, said):
        return Unsupported(parameter=parameter, model=model, engine=engine)
    if status in (401, 403):
        return EngineRefused(engine=engine, detail="it wants a key, or another one; set VLLM_API_KEY")
    if model and (any(sign in said for sign in _MISSING) or (status == 404 and "model" in said)):
        return ModelMissing(engine=engine, model=model, remedy=kind.remedy_for(model))
    if status in (200, 404):  # a page in place of an answer, or another program
        return EngineRefused(engine=engine, detail=f"no OpenAI API at that address ({words}); check VLLM_URL")
    if status == 503 and "loading" in said:
        return StillLoading(engine=engine, detail="it is still loading its model")
    if any(sign in said for sign in _MEMORY):
        return OutOfMemory(engine=engine, model=model)
    if status in (408, 429):
        # Nothing is wrong with the request, nor with the server.
        return EngineError(engine=engine, detail=words)
    return (EngineRefused if 400 <= status < 500 else EngineFailed)(engine=engine, detail=words)


def embed_error_of(refusal: Refusal, kind: ServerKind, model: str) -> ChatError:
    """The same, where vectors were asked for: a server without that path makes none."""
    error = error_of(refusal, kind, model)
    if refusal.status in (404, 405, 501) and not isinstance(error, ModelMissing):
        return Unsupported(parameter="input", model=model, engine=kind.label)
    return error


def _parameter(refusal: Refusal, said: str) -> str | None:
    """What of the request the server cannot honour, by OpenAI's name, where that is what it says."""
    unexpected = _UNEXPECTED.search(said)
    named = refusal.error.get("param") if refusal.error.get("code") in _UNSUPPORTED else unexpected and unexpected[1]
    if named in _CHOSEN:
        return str(named)
    return next((parameter for sign, parameter in _UNABLE.items() if sign in said), None)


def _too_long(refusal: Refusal, engine: str) -> PromptTooLong | TextTooLong | None:
    error = refusal.error
    if error.get("type") == "exceed_context_size_error" and "n_prompt_tokens" in error:  # llama.cpp
        return PromptTooLong(engine=engine, tokens=int(error["n_prompt_tokens"]), limit=int(error["n_ctx"]))
    words = str(error.get("message", ""))
    if sizes := _TEXT_SIZES.search(words):
        return PromptTooLong(engine=engine, tokens=int(sizes[1]), limit=int(sizes[2]))
    if "input length exceeds" in words:
        return TextTooLong(engine=engine)
    limit = _number(_LIMIT, words)
    if limit is None:
        return None
    if (exact := _number(_EXACT, words)) is not None:
        return PromptTooLong(engine=engine, tokens=exact, limit=limit)
    bound = _number(_AT_LEAST, words)
    if bound is None and (passed := _number(_MORE_THAN, words)) is not None:
        bound = passed + 1
    return None if bound is None else PromptLargerThan(engine=engine, tokens=bound, limit=limit)


def _number(pattern: re.Pattern[str], words: str) -> int | None:
    found = pattern.search(words)
    return next((int(group) for group in found.groups() if group), None) if found else None
