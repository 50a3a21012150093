"""Ollama's failures made typed errors, by its words as they were recorded (tests/data/ollama)."""

from __future__ import annotations

import json
import re
from typing import Final

import httpx

from app.errors import (
    ChatError,
    EngineError,
    EngineFailed,
    EngineRefused,
    ModelMissing,
    ModelProcessDied,
    OutOfMemory,
    PromptTooLong,
    TextTooLong,
    Unsupported,
)

LABEL: Final = "Ollama"

# The first two were recorded: killed while loading, killed while reading or writing. The others are what Ollama says
# of a process that was dead already (`no longer running`: llm/server.go; the rest: Go's words for its connection).
_DEATH: Final = (
    "process has terminated",
    "unexpected EOF",
    "process no longer running",
    "connection reset by peer",
    "connection refused",
)
# Ollama's own check before loading, then the words of llama.cpp, CUDA and C++.
_MEMORY: Final = (
    "requires more system memory",
    "out of memory",
    "failed to allocate",
    "unable to allocate",
    "bad_alloc",
)
# What a model cannot do, and OpenAI's name of what asked for it. Tools and embeddings were recorded; the others are
# said in the same way (server/routes.go).
_UNABLE: Final = {
    "does not support tools": "tools",
    "does not support embeddings": "input",
    "does not support chat": "messages",
    "does not support generate": "prompt",
}
# Of texts to embed. llama-server tells the sizes (an input has to fit one batch), Ollama's own check does not.
_TEXT_SIZES: Final = re.compile(r"input \((\d+) tokens\) is too large to process.*batch size: (\d+)")
_TEXT_TOO_LONG: Final = ("input length exceeds", "is too large to process")
_LONGEST: Final = 200


def refusal(status: int, body: str, model: str) -> ChatError:
    """The error for an answer with another HTTP status than 200.

    Args:
        status: HTTP's, 4xx or 5xx.
        body: Ollama's `{"error": words}`, or what a proxy before it says.
        model: the one that was asked for; empty: none was.
    """
    words = _words_in(body)
    if words is None:
        said = _page_words(status, body)
        return not_ollama(said) if status == 404 else EngineFailed(engine=LABEL, detail=said)
    too_long = _prompt_too_long(words)
    if too_long is not None:
        return too_long
    parameter = next((name for sign, name in _UNABLE.items() if sign in words), None)
    if parameter is not None:
        return Unsupported(parameter=parameter, model=model, engine=LABEL)
    if status == 404 and model:
        return ModelMissing(engine=LABEL, model=model, remedy=f"ollama pull {model}")
    if 400 <= status < 500:
        return EngineRefused(engine=LABEL, detail=words)
    return failure(words, model)


def failure(words: str, model: str) -> EngineError:
    """The error for Ollama's words in a 5xx, or in an error line under HTTP 200 while it answers."""
    too_long = _prompt_too_long(words)
    if too_long is not None:
        return too_long
    # Memory first: "process has terminated: cudaMalloc failed: out of memory" is both.
    if any(sign in words for sign in _MEMORY):
        return OutOfMemory(engine=LABEL, model=model)
    if any(sign in words for sign in _DEATH):
        return ModelProcessDied(engine=LABEL, model=model)
    return EngineFailed(engine=LABEL, detail=words)


def not_ollama(said: str) -> EngineError:
    """The error for an answer that no Ollama gives; `said`: what came instead."""
    detail = f"another program answers at its address (“{_shortened(said)}”); correct OLLAMA_HOST"
    return EngineError(engine=LABEL, detail=detail)


def error_words(found: object) -> str:
    """What stands at `error` in an answer or a line: text, or an object with a `message` as in OpenAI's API."""
    if isinstance(found, dict):
        found = found.get("message", found)
    return found if isinstance(found, str) else json.dumps(found)


def _words_in(body: str) -> str | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return error_words(found["error"]) if isinstance(found, dict) and "error" in found else None


def _page_words(status: int, body: str) -> str:
    """A short text as it is; of a page for browsers, and of nothing, only the status."""
    if not body.strip() or body.lstrip().startswith("<"):
        return f"HTTP {status} {httpx.codes.get_reason_phrase(status)}".strip()
    return _shortened(body)


def _shortened(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


def _prompt_too_long(words: str) -> PromptTooLong | TextTooLong | None:
    """With `truncate: false` the model process's refusal is JSON inside the words (recorded: truncate_false_over)."""
    if sizes := _TEXT_SIZES.search(words):
        return PromptTooLong(engine=LABEL, tokens=int(sizes[1]), limit=int(sizes[2]))
    if any(sign in words for sign in _TEXT_TOO_LONG):
        return TextTooLong(engine=LABEL)
    try:
        inner = json.loads(words)["error"]
        if inner["type"] != "exceed_context_size_error":
            return None
        return PromptTooLong(engine=LABEL, tokens=int(inner["n_prompt_tokens"]), limit=int(inner["n_ctx"]))
    except (ValueError, KeyError, TypeError):
        return None
