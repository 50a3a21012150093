"""The operator's page, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from app.assembly.answering import Answering
from app.assembly.counting import Counting
from app.assembly.kept import Kept
from app.dashboard import Dashboard, Parts
from app.memory import memory_now
from app.page.data_layer import ChatDataLayer
from app.page.forgetful import ForgetfulStore
from app.samples import Samples
from app.storage.hourly import HourlyLog
from app.storage.unsaved import away_since

# Rows of the log that are counted, the newest. SQLite takes about a second for so many, in a thread of its own.
_MOST_ROWS: Final = 100_000


def dashboard(
    answers: Answering,
    counted: Counting,
    kept: Kept | None,
    store: ChatDataLayer | ForgetfulStore,
    *,
    open_pages: Callable[[], int],
) -> tuple[Dashboard, Samples]:
    """What is drawn, and what has to run for it.

    Args:
        answers: the engines and their queues.
        counted: the replies.
        kept: the database; None: there is none.
        store: where conversations are kept, if they are.
        open_pages: how many browsers' pages are connected.
    """
    chat, unsaved = answers.chat, store.unsaved
    database = kept.database if kept is not None else None
    samples = Samples(memory_now, lambda: chat.serving, lambda: chat.waiting)
    log = HourlyLog(database, _MOST_ROWS) if database is not None and counted.request_log is not None else None
    parts = Parts(
        chat=chat,
        engines=answers.engines,
        finder=answers.finder,
        stats=counted.stats,
        samples=samples,
        read_log=None if log is None else log.since,
        database=None if database is None else lambda: away_since(database, unsaved) is None,
        open_pages=open_pages,
        unsaved=lambda: unsaved.waiting if unsaved is not None else 0,
    )
    return Dashboard(parts), samples
