"""What this process may use of the machine that it runs on, and what is taken of it: by the kernel, control groups of
either version, and on macOS sysctl."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.sysctl import machine_by_sysctl

MIB: Final = 2**20
# For the system and Docker, where the memory is that of the whole machine.
SYSTEM: Final = 256 * MIB


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use. `memory` in bytes; `cores` may be a fraction, as a container's quota is."""

    memory: int
    cores: float


@dataclass(frozen=True, slots=True)
class InUse:
    """Memory in bytes: what is taken of how much. What the kernel gives back when it is wanted is not taken."""

    used: int
    size: int


def in_a_container(root: Path = Path("/")) -> bool:
    """Whether this process runs in a container of Docker or Podman: nobody who asks it from outside has an address of
    this machine, as by Kubernetes' port-forward."""
    return any((root / sign).exists() for sign in (".dockerenv", "run/.containerenv"))


def this_machine(root: Path = Path("/"), processors: int | None = None) -> Machine:
    """What the kernel and the control groups (v1 and v2) allow this process; on macOS, what sysctl tells.

    Args:
        root: of the file system; another one in tests.
        processors: how many this process may run on; None: asked of the kernel.

    Raises:
        OSError: neither can be read.
    """
    if not (root / "proc/meminfo").exists():
        whole, cores = machine_by_sysctl()
        return Machine(whole - SYSTEM, cores)
    memory = _meminfo(root, "MemTotal") - SYSTEM
    cores = float(processors or len(os.sched_getaffinity(0)))
    for group in _control_groups(root):
        limit = _memory_limit(group)
        if limit:
            memory = min(memory, limit)
        quota = _quota(group)
        if quota:
            cores = min(cores, quota)
    return Machine(memory, cores)


def memory_in_use(root: Path = Path("/")) -> dict[str, InUse]:
    """What is taken of the `machine`'s memory and, where it is limited, of this `container`'s.

    Where the kernel does not tell, as on macOS, there is none.

    Args:
        root: of the file system; another one in tests.
    """
    found = {}
    try:
        total, available = (_meminfo(root, name) for name in ("MemTotal", "MemAvailable"))
        found["machine"] = InUse(total - available, total)
    except (OSError, RuntimeError):
        return {}
    if container := container_in_use(root):
        found["container"] = container
    return found


def container_in_use(root: Path = Path("/")) -> InUse | None:
    """What is taken of the memory that this container may use; of groups within one another, the fullest's. None: there
    is no limit.

    It is counted as Kubernetes does: all but the pages of files that nobody has touched for a while.

    Args:
        root: of the file system; another one in tests.
    """
    limited = ((group, _memory_limit(group)) for group in _control_groups(root))
    limits = [InUse(used, limit) for group, limit in limited if limit and (used := _working_set(group))]
    return max(limits, key=lambda group: group.used / group.size, default=None)


def _meminfo(root: Path, name: str) -> int:
    for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/meminfo has no {name}")


def _control_groups(root: Path) -> Iterator[Path]:
    """Where the limits of this process's control groups stand, its own and those above it.

    Within a container the path in /proc/self/cgroup is often that of the host; then the mounted folder is its own.
    """
    mounted = root / "sys/fs/cgroup"
    listed = root / "proc/self/cgroup"
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        tops = [mounted] if not controllers else [mounted / name for name in (controllers, *controllers.split(","))]
        for top in tops:
            own = top / path.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder == top or top in folder.parents)


def _memory_limit(group: Path) -> int | None:
    """What a group may use, in bytes; None: as much as there is."""
    return _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")


def _working_set(group: Path) -> int:
    """What a group uses, in bytes, as Kubernetes counts it: all but the files' pages that nobody has used lately, which
    the kernel gives up before anything else."""
    used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
    idle = 0
    try:
        for line in (group / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            # v1 tells its own alone by the second name, and with the groups below it by the first.
            if name == "total_inactive_file" or (name == "inactive_file" and not idle):
                idle = int(value)
    except (OSError, ValueError):
        pass
    return max(used - idle, 0)


def _number(file: Path) -> int | None:
    """The number in a file; None: there is none, `max`, or v1's word for no limit, a number that no machine has."""
    try:
        value = int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return value if 0 < value < 2**60 else None


def _quota(group: Path) -> float | None:
    """Processors that a group may use: cpu.max of v2, cfs_quota over cfs_period of v1."""
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        allowed, length = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        return allowed / length if allowed and length else None
    return None if quota == "max" else int(quota) / int(period)
