"""What macOS tells of the machine, where Linux has /proc and control groups."""

from __future__ import annotations

import subprocess
from typing import Final

_SECONDS: Final = 2


def machine_by_sysctl() -> tuple[int, float]:
    """The memory of the machine in bytes, and its processors.

    Raises:
        OSError: there is no sysctl here, or it does not tell.
    """
    return _number("hw.memsize"), float(_number("hw.ncpu"))


def _number(name: str) -> int:
    try:
        told = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=_SECONDS, check=True)
        return int(told.stdout)
    except (subprocess.SubprocessError, ValueError):
        raise OSError(f"sysctl does not tell {name}") from None
