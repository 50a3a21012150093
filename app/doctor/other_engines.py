"""The OpenAI-compatible server, and transformers."""

from __future__ import annotations

from collections.abc import Sequence

from app.default_model import TRANSFORMERS, VLLM, runs_here
from app.doctor.check import Finding, Patient, first_sentence
from app.errors import EngineError


async def openai_server(patient: Patient) -> Sequence[Finding]:
    """The server at VLLM_URL; nothing where there is to be none."""
    engine = patient.answers.chat.catalog.engines.get(VLLM)
    if engine is None:
        return []
    where = patient.answers.finder.wishes.vllm_url
    try:
        models = await engine.models()
    except EngineError as problem:
        advice = "start it, or take VLLM_URL away; a key that it wants is VLLM_API_KEY"
        return [Finding("VLLM_URL", "problem", first_sentence(problem), advice)]
    if not models:
        return [Finding("VLLM_URL", "problem", f"{engine.label} at {where} has no model", "start it with one")]
    return [Finding("VLLM_URL", "ok", f"{engine.label} at {where}: {models[0].name}")]


async def transformers(patient: Patient) -> Sequence[Finding]:
    """Whether what runs models in this process is installed, where the settings want it."""
    settings = patient.settings
    wanted = [name for name in (settings.model, settings.fallback_model) if runs_here(name)]
    there = TRANSFORMERS in patient.answers.chat.catalog.engines
    if wanted and not there:
        advice = "make install-local; in the image: docker build --build-arg WITH_TRANSFORMERS=1"
        return [Finding("transformers", "problem", f"not installed, but {wanted[0]} needs it", advice)]
    told = "installed" if there else "not installed, and not needed while another engine answers"
    return [Finding("transformers", "ok", told)]
