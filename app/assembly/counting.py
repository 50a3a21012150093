"""What counts and logs the replies that have ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from app.assembly.kept import Kept
from app.chat import Chat
from app.metrics import Ended
from app.request_log import RequestLog
from app.series import ReplySeries
from app.settings import Settings
from app.stats import Stats
from app.storage.requests import Requests

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Counting:
    """What counts and logs.

    Attributes:
        stats: figures of the last hour and day.
        series: Prometheus' figures.
        request_log: a row for each reply; None: there is none.
        recall: takes up the figures from before the start; None: there are none.
    """

    stats: Stats
    series: ReplySeries
    request_log: RequestLog | None = None
    recall: Callable[[], Coroutine[Any, Any, None]] | None = None

    def add(self, reply: Ended) -> None:
        """A reply has ended."""
        self.stats.add(reply)
        self.series.add(reply)
        if self.request_log is not None:
            self.request_log.add(reply)


def counting(settings: Settings, chat: Chat, kept: Kept | None, registry: CollectorRegistry) -> Counting:
    """Put it together, and let the chat tell it of each reply.

    Args:
        settings: of the server.
        chat: makes the replies.
        kept: the database; None: there is none.
        registry: of the figures that Prometheus reads.
    """
    found = Counting(stats := Stats(settings.stats_replies), series := ReplySeries(registry))
    if kept is not None and settings.history and settings.request_log:
        requests = Requests(kept.database)
        text_bytes = settings.log_text_max_bytes if settings.log_text else 0
        kept.request_log = RequestLog(requests, text_bytes=text_bytes)
        found = Counting(stats, series, kept.request_log, lambda: stats.recall(requests.since))
    if settings.log_text:
        log.info(
            "STATS %s",
            "LOG_TEXT=on: what people say is kept in the log of requests"
            if found.request_log is not None
            else "LOG_TEXT=on changes nothing: it needs REQUEST_LOG and HISTORY",
        )
    chat.on_end = found.add
    chat.catalog.on_read(lambda: series.expect(chat.catalog.known))
    return found
