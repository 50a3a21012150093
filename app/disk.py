"""How full a disk is."""

from __future__ import annotations

import shutil
from pathlib import Path
from threading import Thread
from typing import Final

# Seconds that a disk has to tell how full it is; so long does everything wait.
_PATIENCE: Final = 0.25


class Disk:
    """Tells of the disk with a folder. It is looked at in a thread, for one of the network may hang, and everybody's
    replies with it.

    Args:
        folder: on it; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: tuple[int, int] | None = None
        self._looking: Thread | None = None

    def __call__(self) -> tuple[int, int] | None:
        """Free and all bytes; None: it cannot be told, or not now."""
        if self._looking is None or not self._looking.is_alive():
            self._looking = Thread(target=self._look, name="disk", daemon=True)
            self._looking.start()
        self._looking.join(_PATIENCE)
        return None if self._looking.is_alive() else self._found

    def _look(self) -> None:
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError:
            self._found = None
        else:
            self._found = usage.free, usage.total
