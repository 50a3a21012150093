"""What Prometheus reads of this server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics
from prometheus_fastapi_instrumentator import Instrumentator

from app import __version__
from app.assembly.answering import Answering
from app.disk import Disk
from app.machine import memory_in_use
from app.page.data_layer import ChatDataLayer
from app.page.forgetful import ForgetfulStore
from app.series import PREFIX, AheadSeries, MachineSeries, ServerSeries, StorageSeries
from app.storage.database import Database
from app.storage.unsaved import away_since


def empty_registry() -> CollectorRegistry:
    """Where series are put. When each counter began is left out: in this format that is a series more for each."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    return CollectorRegistry()


def measure_server(
    registry: CollectorRegistry,
    answers: Answering,
    database: Database | None,
    store: ChatDataLayer | ForgetfulStore,
    *,
    open_pages: Callable[[], int],
    data_dir: Path,
) -> None:
    """Add how the server stands to what Prometheus reads.

    Args:
        registry: of all series.
        answers: the engines and their queues.
        database: of conversations and accounts; None: nothing is kept, and no series tells of it.
        store: where conversations are kept, if they are.
        open_pages: how many browsers' pages are connected.
        data_dir: whose disk is told of; with HISTORY=off it need not exist.
    """
    catalog = answers.chat.catalog

    def loaded() -> dict[str, int]:
        return Counter(model.engine for model in catalog.listed if model.loaded)

    ServerSeries(registry, answers.chat, answers.engines, states=catalog.states, loaded=loaded, open_pages=open_pages)
    if database is not None:
        unsaved = store.unsaved
        StorageSeries(
            registry,
            unsaved=lambda: unsaved.waiting if unsaved is not None else 0,
            lost=lambda: store.failed_writes,
            up=lambda: away_since(database, unsaved) is None,
        )
    ahead = answers.chat.ahead
    AheadSeries(registry, tokens=lambda: ahead.tokens, seconds=lambda: ahead.seconds)
    MachineSeries(registry, memory=memory_in_use, disk=Disk(data_dir))
    ProcessCollector(registry=registry)
    Info(f"{PREFIX}_build", "What runs here.", registry=registry).info({"version": __version__})


def measure_http(registry: CollectorRegistry, app: FastAPI) -> None:
    """Count the requests of an app that has all its routes, and their times.

    A stream counts until its answer begins: how long a reply takes is told by series of its own.
    """
    Instrumentator(
        registry=registry,
        should_group_status_codes=False,
        should_exclude_streaming_duration=True,
        excluded_handlers=["^/metrics$"],
    ).instrument(app)
