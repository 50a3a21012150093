"""Downloads as the operator sees them: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Final, Self

from tqdm import tqdm

from app.engines.base import Progress

log = logging.getLogger(__name__)

_LOG_EVERY_PERCENT: Final = 10


class DownloadBar:
    """Shows `Progress` of one download; a context manager.

    Args:
        label: what is downloaded.
        terminal: whether to draw a bar; by default if the error stream is a terminal.
    """

    def __init__(self, label: str, *, terminal: bool | None = None) -> None:
        self._label = label
        self._terminal = sys.stderr.isatty() if terminal is None else terminal
        self._bar: tqdm[None] | None = None
        self._logged = -_LOG_EVERY_PERCENT

    def __enter__(self) -> Self:
        if self._terminal:
            self._bar = tqdm(desc=self._label, unit="B", unit_scale=True, unit_divisor=1024, leave=True)
        return self

    def show(self, progress: Progress) -> None:
        """Show how far it is."""
        if self._bar is not None:
            self._bar.total = progress.total
            self._bar.update(progress.completed - self._bar.n)
        elif progress.total:
            percent = 100 * progress.completed // progress.total
            if percent >= self._logged + _LOG_EVERY_PERCENT:
                self._logged = percent
                log.info("MODELS downloading %s: %d %% of %.0f MB", self._label, percent, progress.total / 1e6)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
