"""What torch and transformers raise, as typed errors."""

from __future__ import annotations

import logging
from typing import Final

from app.errors import CheckpointBroken, EngineError, EngineFailed, ModelBroken, OutOfMemory

log = logging.getLogger(__name__)

LABEL: Final = "transformers"
# Of torch's allocators for CPU, CUDA and MPS, and of the operating system. torch.OutOfMemoryError is CUDA's alone.
_MEMORY_WORDS: Final = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def load_failure(name: str, problem: Exception, *, trained: bool = False) -> EngineError:
    """The typed error for what was raised while a model was loaded; `trained`: it is the one of CHECKPOINT."""
    if isinstance(problem, EngineError):
        return problem
    if _is_out_of_memory(problem):
        return OutOfMemory(engine=LABEL, model=name)
    broken = CheckpointBroken if trained else ModelBroken
    return broken(engine=LABEL, model=name, detail=words(problem))


def work_failure(name: str, problem: Exception) -> EngineError:
    """The typed error for what was raised while a model was at work; one that nobody expects is logged."""
    if isinstance(problem, EngineError):
        return problem
    if _is_out_of_memory(problem):
        return OutOfMemory(engine=LABEL, model=name)
    log.error("MODELS %s broke", name, exc_info=problem)
    return EngineFailed(engine=LABEL, detail=words(problem))


def words(problem: Exception) -> str:
    """An error in one short line."""
    return " ".join(str(problem).split())[:200] or type(problem).__name__


def _is_out_of_memory(problem: Exception) -> bool:
    said = str(problem).lower()
    return isinstance(problem, MemoryError) or any(sign in said for sign in _MEMORY_WORDS)
