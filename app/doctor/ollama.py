"""Ollama: whether it answers, which version, which models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from app.default_model import OLLAMA
from app.doctor.check import Finding, Patient, first_sentence
from app.engines.base import VersionedEngine
from app.errors import EngineError

# The one of the image; a test compares it with the Dockerfile.
TESTED: Final = (0, 32, 15)
# From here on each model runs in llama-server, which takes LLAMA_ARG_*.
_OLDEST: Final = (0, 30, 0)
_SHOWN: Final = 4


async def ollama(patient: Patient) -> Sequence[Finding]:
    """The server at OLLAMA_HOST."""
    engine = patient.answers.chat.catalog.engines[OLLAMA]
    if not isinstance(engine, VersionedEngine):
        return []
    where = patient.answers.finder.wishes.ollama_url
    try:
        version = await engine.version()
        models = await engine.models()
    except EngineError as problem:
        if not patient.settings.wants_ollama:
            other = "VLLM_URL" if patient.settings.vllm_url else "CHECKPOINT"
            return [Finding("ollama", "ok", f"none, nor was it asked for: {other} is set and OLLAMA_HOST is not")]
        # Where something else answers none is needed; the check of the model tells whether anything does.
        advice = "ollama serve, or set OLLAMA_HOST to where it runs; not needed if another engine answers"
        return [Finding("ollama", "warning", first_sentence(problem), advice)]
    names = [model.name for model in models]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return [
        Finding("ollama", "ok", f"answers at {where}"),
        of_version(version),
        Finding("ollama's models", "ok", shown)
        if names
        else Finding(
            "ollama's models",
            "warning",
            "none",
            f"ollama pull {patient.settings.ollama_models[0]}; the server does so at its start",
        ),
    ]


def of_version(text: str) -> Finding:
    """What to think of a version."""
    name, tested = "ollama's version", ".".join(map(str, TESTED))
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        return Finding(name, "warning", f"{text}, whatever that is", f"tested with {tested}")
    version = tuple(map(int, found.groups()))
    if version < _OLDEST:
        advice = f"update it ({tested} is tested): before 0.30 the cache settings do nothing"
        return Finding(name, "warning", text, advice)
    if version == TESTED:
        return Finding(name, "ok", f"{text}, the one that was tested")
    age = "newer" if version > TESTED else "older"
    return Finding(name, "ok", f"{text}, {age} than the tested {tested}")
