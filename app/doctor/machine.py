"""Cores and memory, and what of them a container's limits leave."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from app.doctor.check import Finding, Patient
from app.machine import MIB, Machine, this_machine
from app.sizing import RESERVED

# Below this gemma2:2b is refused, see "Smaller and larger servers" in the README.
_LITTLE: Final = 2 * 1024 * MIB


def machine_or_none() -> Machine | None:
    """What this process may use; None: neither Linux nor macOS tells."""
    try:
        return this_machine()
    except (OSError, ValueError, RuntimeError):
        return None


async def machine(patient: Patient) -> Sequence[Finding]:
    """How much of the machine there is for us."""
    found = patient.machine
    if found is None:
        told = "neither /proc nor sysctl tells of this machine"
        return [
            Finding(name, "warning", told, "set NUM_THREAD and MODEL_MEMORY by hand") for name in ("cores", "memory")
        ]
    processors = os.cpu_count() or 1
    if found.cores < processors:
        cores = Finding("cores", "ok", f"{found.cores:g} of {processors}, by this container's or process' limit")
    else:
        cores = Finding("cores", "ok", f"{found.cores:g}, no limit below that")
    if found.cores < 1:
        cores = Finding("cores", "warning", cores.found, "replies will be slow; give it a whole core: --cpus 1 or more")
    told = f"{found.memory // MIB:,} MiB may be used, {RESERVED // MIB} of them by everything but the model"
    if found.memory < _LITTLE:
        advice = "gemma2:2b does not fit; a smaller model does: MODELS=llama3.2:1b, or give it more memory"
        return [cores, Finding("memory", "warning", told, advice)]
    return [cores, Finding("memory", "ok", told)]
