"""The speeds of this machine, kept over a restart in a small file: they are no part of a database that others share."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Final
from uuid import uuid4

from app.engines.speeds import SpeedBook

log = logging.getLogger(__name__)

_NAME: Final = "speeds.json"
_VERSION: Final = 1
# Written at most this often, in seconds.
_EVERY: Final = 60.0
# A file that is larger is none of ours.
_LARGEST: Final = 1_000_000


class SpeedFile:
    """Where a `SpeedBook` is written down. What cannot be read or written is said once in the log and left.

    Args:
        book: what is known.
        folder: where the file is.
    """

    def __init__(self, book: SpeedBook, folder: Path) -> None:
        self._book = book
        self._path = folder / _NAME
        self._told = False

    def read(self) -> None:
        """Take over what was known before; a file that is broken or foreign is ignored."""
        try:
            if self._path.stat().st_size > _LARGEST:
                raise ValueError("it is too large")
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(kept, dict) or kept.get("version") != _VERSION or not isinstance(kept["models"], dict):
                raise ValueError("it is something else, or of another version")
            self._book.take(kept["models"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, RecursionError) as problem:
            log.warning("MODELS %s is not read, speeds are learned anew: %s", self._path, problem)

    async def run(self) -> None:
        """Write it down now and then, for ever."""
        while True:
            await asyncio.sleep(_EVERY)
            await self.write()

    async def write(self) -> None:
        """Write down what has been learned, all or nothing."""
        if not self._book.changed:
            return
        self._book.changed = False
        text = json.dumps({"version": _VERSION, "models": self._book.as_dict()}, indent=1)
        try:
            await asyncio.to_thread(self._replace, text)
        except OSError as problem:
            self._book.changed = True
            if not self._told:
                self._told = True
                log.warning(
                    "MODELS %s cannot be written, speeds are learned anew at each start: %s", self._path, problem
                )

    def _replace(self, text: str) -> None:
        # Containers that share a folder have processes of the same number.
        beside = self._path.with_suffix(f".{uuid4().hex}.tmp")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(self._path)
        finally:
            beside.unlink(missing_ok=True)
