"""The model that answers: which, and whether it, its context and its cache fit the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from app.default_model import GUIDE, OLLAMA, TRANSFORMERS
from app.doctor.check import Finding, Patient, first_sentence
from app.engines.base import ModelInfo
from app.engines.ollama import OllamaEngine
from app.errors import EngineError
from app.machine import MIB, Machine
from app.sizing import CONTEXTS, RESERVED, plan


async def model(patient: Patient) -> Sequence[Finding]:
    """The default model, by the very search that the server makes."""
    choice = await patient.answers.finder.choice()
    chosen = choice.model
    if chosen is None:
        advice = "start Ollama (ollama serve) and pull a model (ollama pull gemma2:2b), or set VLLM_URL"
        if TRANSFORMERS not in patient.answers.chat.catalog.engines and not patient.in_a_container:
            advice += "; make run installs what a small one needs that runs without them"
        return [Finding("model", "problem", "no engine has one that answers", advice)]
    if choice.wanted:
        advice = f"ollama pull {choice.wanted}, or correct MODEL"
        found = [Finding("model", "warning", f"MODEL={choice.wanted} is not there, {chosen.id} answers", advice)]
    elif chosen.name == GUIDE and patient.settings.model != GUIDE:
        found = [Finding("model", "warning", "only the built-in guide answers", "start Ollama, or set VLLM_URL")]
    else:
        found = [Finding("model", "ok", f"{chosen.id} answers")]
    if chosen.engine != OLLAMA:
        return found
    if not patient.ollama_is_here or patient.machine is None:
        return [*found, Finding("model's memory", "ok", "Ollama is on another machine, whose memory is not known here")]
    engine = patient.answers.chat.catalog.engine_of(chosen)
    assert isinstance(engine, OllamaEngine)
    context = patient.answers.chat.catalog.context_length(chosen)
    try:
        takes = await engine.takes(chosen.name, context)
    except EngineError as problem:
        told = first_sentence(problem)
        return [*found, Finding("model's memory", "warning", told, "look again once Ollama answers")]
    return [
        *found,
        *([] if takes is None else [_memory(patient, patient.machine, chosen, takes, context)]),
        *([] if takes is None else [_cache(patient, patient.machine, chosen, takes, context)]),
        _threads(patient.settings.num_thread, patient.machine),
    ]


def _memory(patient: Patient, machine: Machine, chosen: ModelInfo, takes: int, context: int) -> Finding:
    name, settings = "model's memory", patient.settings
    room = settings.model_memory or max(machine.memory - RESERVED, 0) // MIB
    told = f"{chosen.name} with {context:,} tokens takes {takes // MIB:,} MiB of {room:,}"
    if takes <= room * MIB:
        return Finding(name, "ok", told)
    fitting = plan(machine, chosen.size or 0, slots=settings.ollama_slots).num_ctx
    if fitting < context and fitting > CONTEXTS[-1]:
        return Finding(name, "problem", told, f"a shorter context: NUM_CTX={fitting}")
    return Finding(name, "problem", told, "a smaller model, such as MODELS=llama3.2:1b, or more memory")


def _cache(patient: Patient, machine: Machine, chosen: ModelInfo, takes: int, context: int) -> Finding:
    name, settings = "context and cache", patient.settings
    cache = settings.llama_arg_cache_ram
    left = max(machine.memory - RESERVED - takes, 0) // MIB
    if cache < 0 or cache > left:
        fitting = plan(machine, chosen.size or 0, slots=settings.ollama_slots, context=context).cache_ram
        most = "without bound" if cache < 0 else f"to {cache:,} MiB"
        told = f"Ollama's prompt cache may grow {most}, {left:,} MiB are left for it"
        return Finding(name, "warning", told, f"start Ollama and this server with LLAMA_ARG_CACHE_RAM={fitting}")
    told = f"{context:,} tokens, a prompt cache of {cache:,} MiB of {left:,} that are left"
    if chosen.context_length is not None and settings.num_ctx > chosen.context_length:
        return Finding(name, "ok", told, f"NUM_CTX={settings.num_ctx} is more than the model's own; {context} counts")
    return Finding(name, "ok", told)


def _threads(threads: int, machine: Machine) -> Finding:
    whole = max(int(machine.cores), 1)
    if threads > max(machine.cores, 1):
        told = f"NUM_THREAD={threads}, but there are {machine.cores:g} cores to use"
        return Finding("threads", "warning", told, f"NUM_THREAD={whole}: threads that wait for each other are slow")
    if not threads and machine.cores < (os.cpu_count() or 1):
        told = f"Ollama decides, and does not see the limit of {machine.cores:g} cores"
        return Finding("threads", "warning", told, f"NUM_THREAD={whole}")
    return Finding("threads", "ok", f"NUM_THREAD={threads}" if threads else "Ollama decides")
