"""Ollama's failures, as recorded from the real one, made typed errors."""

from __future__ import annotations

import json
from typing import Final

from app.errors import (
    EngineError,
    EngineFailed,
    EngineRefused,
    ModelMissing,
    ModelProcessDied,
    OutOfMemory,
    PromptTooLong,
)

_LABEL: Final = "Ollama"
_DEATH: Final = ("process has terminated", "unexpected EOF", "connection reset", "process no longer running")
_MEMORY: Final = (
    "requires more system memory",
    "out of memory",
    "failed to allocate",
    "unable to allocate",
    "bad_alloc",
)


def words_of(body: str) -> str:
    """Ollama's own words in an error's body; of another program's page (a proxy's), its beginning."""
    try:
        found = json.loads(body)
    except ValueError:
        return " ".join(body.split())[:200] or "an empty answer"
    return str(found.get("error", body)) if isinstance(found, dict) else body[:200]


def error_of(status: int, words: str, model: str) -> EngineError:
    """The error for an HTTP status (200: a line in mid-stream) and Ollama's words."""
    too_long = _prompt_too_long(words)
    if too_long is not None:
        return too_long
    if any(sign in words for sign in _MEMORY):
        return OutOfMemory(engine=_LABEL, model=model)
    if any(sign in words for sign in _DEATH):
        return ModelProcessDied(engine=_LABEL, model=model)
    if status == 404:
        return ModelMissing(engine=_LABEL, model=model, remedy=f"ollama pull {model}")
    if 400 <= status < 500:
        return EngineRefused(engine=_LABEL, detail=words)
    return EngineFailed(engine=_LABEL, detail=words)


def _prompt_too_long(words: str) -> PromptTooLong | None:
    """With `truncate: false` the runner's refusal is JSON inside the error's text."""
    try:
        inner = json.loads(words)["error"]
        if inner["type"] == "exceed_context_size_error":
            return PromptTooLong(engine=_LABEL, tokens=int(inner["n_prompt_tokens"]), limit=int(inner["n_ctx"]))
    except (ValueError, KeyError, TypeError):
        return None
    return None
