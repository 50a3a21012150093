"""Bringing a model into memory and giving the memory back, on the engine's worker thread."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any, Final

from app.engines.checkpoint import Checkpoint
from app.engines.local_errors import LABEL, load_failure
from app.engines.local_files import read_files
from app.engines.local_model import LocalModel
from app.engines.plain_template import STOPS, plain_template
from app.errors import EngineError, EngineFailed, LocalModelsNotInstalled

# Parameters from which on a model is kept in 16 bits on a CPU too. Measured on 2 cores: one of 5 M is slower in 16 bits
# than in 32; one of 0.6 B is not, and takes 1.2 GB instead of 2.4.
_LARGE: Final = 300_000_000


def load_model(
    name: str, folder: Path, *, device: str, caches: int, checkpoint: Checkpoint | None = None
) -> LocalModel:
    """Bring a model into memory.

    On a CPU the weights are float32, from 300 M parameters on bfloat16; elsewhere what the files say.

    Args:
        name: what users call it.
        folder: with configuration, weights and tokenizer; nothing is fetched.
        device: auto, cpu, cuda or mps.
        caches: conversations whose key-value cache is kept.
        checkpoint: that the folder is one: it may be an adapter, or a base model without a chat template.

    Raises:
        LocalModelsNotInstalled: torch or transformers is missing.
        ModelBroken: the folder holds no chat model that can be loaded.
        EngineFailed: torch has no such device.
        OutOfMemory: there is not enough memory for it.
    """
    began = time.monotonic()
    try:
        import torch  # noqa: F401 - to say what is missing
        import transformers  # noqa: F401
    except ImportError as problem:
        raise LocalModelsNotInstalled(engine=LABEL, detail=str(problem)) from None
    place = _device(device)
    error: EngineError
    try:
        model, tokenizer, stops = _load(
            name, checkpoint or Checkpoint(folder, name), place, plain=checkpoint is not None
        )
        seconds = time.monotonic() - began
        return LocalModel(name, model, tokenizer, device=place, caches=caches, load_seconds=seconds, stops=stops)
    except Exception as problem:  # noqa: BLE001 - each library on the way has its own errors for a broken file
        error = load_failure(name, problem, trained=checkpoint is not None)
    # Only here the traceback is gone, and with it the weights that its frames held.
    release(place)
    raise error


def release(device: str) -> None:
    """Give back memory that torch holds for later."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def _load(name: str, source: Checkpoint, device: str, *, plain: bool) -> tuple[Any, Any, tuple[str, ...]]:
    """The model, its tokenizer, and what ends a reply beside the model's own tokens.

    Args:
        plain: what has no chat template gets a plain one.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, local_files_only=True)
    stops: tuple[str, ...] = ()
    if not tokenizer.chat_template and plain:
        tokenizer.chat_template, stops = plain_template(tokenizer), STOPS
    if not tokenizer.chat_template:
        raise ValueError("no chat template: it is not a chat model")
    folder = source.base or source.folder
    large = (read_files(folder).parameters or _LARGE) >= _LARGE
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        local_files_only=True,
        dtype="auto" if device != "cpu" else torch.bfloat16 if large else torch.float32,
        output_loading_info=True,
    )
    # transformers fills missing weights with random numbers and goes on.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, {missing[0]} among them")
    if source.base is not None:
        model = with_adapter(model, source.folder)
    return model.to(device).eval(), tokenizer, stops


def with_adapter(model: Any, folder: Path) -> Any:
    """The model with what an adapter adds to its weights. Raises LocalModelsNotInstalled, and what peft does."""
    try:
        from peft import PeftModel
    except ImportError as problem:
        raise LocalModelsNotInstalled(engine=LABEL, detail=str(problem)) from None
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def _device(wanted: str) -> str:
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(device for device, usable in there.items() if usable)
    if not there[wanted]:
        raise EngineFailed(engine=LABEL, detail=f"DEVICE={wanted}, but torch finds no such device here")
    return wanted
