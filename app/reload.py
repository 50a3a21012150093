"""RELOAD: the server as a process of its own, which is started again whenever a source file changes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from watchfiles import DefaultFilter, watch

from app.settings import ROOT

log = logging.getLogger(__name__)

_WATCHED: Final = (ROOT / "app", ROOT / ".chainlit")
_KINDS: Final = (".py", ".toml", ".json", ".txt")
# A server that is to end has this long, in seconds; replies in progress are stored meanwhile.
_PATIENCE: Final = 10
# How often it is looked at whether the server has ended by itself, in milliseconds.
_LOOK: Final = 500


class _Sources(DefaultFilter):
    """Without what editors and Python itself leave beside them."""

    def __call__(self, change: object, path: str) -> bool:
        return path.endswith(_KINDS) and super().__call__(change, path)  # type: ignore[arg-type]


class Reloader:
    """Starts the server, ends it and starts it anew."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()

    def run(self) -> int:
        """Until SIGINT or SIGTERM, which the server gets too. Returns its exit code."""
        with self._signals():
            self._start()
            for changes in watch(
                *_WATCHED, watch_filter=_Sources(), stop_event=self._stop, rust_timeout=_LOOK, yield_on_timeout=True
            ):
                if changes:
                    names = sorted({os.path.relpath(path, ROOT) for _, path in changes})
                    log.info("HEALTH %s changed, the server is started again", ", ".join(names))
                    self._end()
                    self._start()
                elif self._child is not None and self._child.poll() is not None:
                    log.warning("HEALTH the server has ended (%d); the next change starts it", self._child.returncode)
                    self._child = None
            return self._end()

    def _start(self) -> None:
        if self._stop.is_set():
            return
        # In a group of its own: Ctrl-C would reach it twice, and the second one cuts short what the first began.
        self._child = subprocess.Popen(
            [sys.executable, "-m", "app"], env={**os.environ, "RELOAD": "off"}, process_group=0
        )

    def _end(self) -> int:
        child, self._child = self._child, None
        if child is None:
            return 0
        if not self._stop.is_set():
            child.send_signal(signal.SIGINT)
        try:
            return child.wait(None if self._stop.is_set() else _PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def pass_on(number: int, _: FrameType | None) -> None:
            self._stop.set()
            if self._child is not None:
                self._child.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
