"""How much memory is used: by this program, by its container, by the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

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
    program, machine = program_bytes(root), _machine(root)
    total = machine.get("MemTotal")
    for folder, current, limit, files in _groups(root):
        most, used = _number(folder / limit), _number(folder / current)
        # Version 1 of the control groups says a huge number where there is no limit.
        if most is not None and used is not None and (total is None or most < total):
            return Memory(program, max(used - _field(folder / "memory.stat", files), 0), most, "container")
    available = machine.get("MemAvailable")
    if total is None or available is None:
        return Memory(program)
    return Memory(program, total - available, total)


def program_bytes(root: Path = _ROOT) -> int | None:
    """Resident memory: https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html"""
    try:
        pages = (root / "proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _groups(root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Where a container's own control group stands, and its files: what is used, the limit, and the field of
    memory.stat that counts pages of files that nobody needs; of versions 2 and 1."""
    top = root / "sys/fs/cgroup"
    yield top, "memory.current", "memory.max", "inactive_file"
    yield top / "memory", "memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _field(file: Path, name: str) -> int:
    try:
        lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
        return next((int(line[1]) for line in lines if line[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0


def _machine(root: Path) -> dict[str, int]:
    """https://man7.org/linux/man-pages/man5/proc_meminfo.5.html, in bytes."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        found = (line.replace(":", " ").split() for line in lines)
        return {parts[0]: int(parts[1]) * 1024 for parts in found if len(parts) == 3}
    except (OSError, ValueError):
        return {}
