"""How much memory is used: by this program, by its container, by the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from app.machine import memory_in_use

_ROOT: Final = Path("/")


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes; None: the system does not tell.

    Attributes:
        program: resident memory of this process.
        used: of the container if it has a limit, else of the machine, without what only speeds up files.
        limit: of the same.
        of: which of them.
    """

    program: int | None
    used: int | None = None
    limit: int | None = None
    of: Literal["container", "machine"] = "machine"


def memory_now(root: Path = _ROOT) -> Memory:
    """What Linux says; elsewhere nothing is known.

    Args:
        root: of the file system; another one in tests.
    """
    program, found = program_bytes(root), memory_in_use(root)
    for of in ("container", "machine"):
        if of in found:
            return Memory(program, found[of].used, found[of].size, of)
    return Memory(program)


def program_bytes(root: Path = _ROOT) -> int | None:
    """Resident memory: https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html"""
    try:
        pages = (root / "proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
