"""What a training runs on, and how exactly it calculates there."""

from __future__ import annotations

import ctypes
import shutil
from typing import Final

import torch

from training.config import LoopConfig
from training.runs import RunError

_TRIM_THRESHOLD: Final = -1  # the numbers of mallopt(3)
_MMAP_MAX: Final = -4


def device_of(asked: str) -> str:
    """cpu, cuda or mps.

    Raises:
        RunError: this machine does not have what the config asks for.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(device for device, usable in there.items() if usable)
    if not there[asked]:
        lacks = without_cuda() if asked == "cuda" else ""
        raise RunError(
            f"training.device is {asked}, which this machine does not have; {lacks or '`auto` takes what there is'}"
        )
    return asked


def without_cuda() -> str:
    """What to do where there is an NVIDIA card that the installed torch cannot use; empty where it is not so."""
    if torch.version.cuda or torch.version.hip or not shutil.which("nvidia-smi"):
        return ""
    return "the card of NVIDIA needs a torch with CUDA: CUDA=1 make install-local"


def precision_of(loop: LoopConfig) -> torch.dtype:
    """float32, or what matrices are multiplied in; the weights themselves stay in float32.

    Raises:
        RunError: the device cannot.
    """
    device = device_of(loop.device)
    if loop.precision == "float16" and device != "cuda":
        raise RunError(f"training.precision is float16, which needs a CUDA device; this is {device}. `auto` chooses")
    if loop.precision != "auto":
        chosen: torch.dtype = getattr(torch, loop.precision)
        return chosen
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device == "mps":
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float32
    # AVX512-BF16, AMX, and ARM's of such names; without them the same products take four times as long as in float32.
    fast = any(there and name.endswith("bf16") for name, there in torch.cpu.get_capabilities().items())
    return torch.bfloat16 if fast else torch.float32


def keep_memory() -> None:
    """Let this process keep the memory that it frees, for as long as it runs, where its C library can (glibc).

    glibc gives every large block back to the system and asks for it anew, page by page: a tenth of each step's time,
    as a step has logits of tens of megabytes. Without a ceiling for what is kept, it is the most that was in use.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):
        return  # musl, macOS, Windows
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
