"""The log: a line for each event, as text or as JSON. Neither says what people write, nor any token, cookie or session.

A line begins with its category: HEALTH, MODELS, CHAT, STATS, AUTH or STORE.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pythonjsonlogger.json import JsonFormatter

from app.request_ids import WithRequestId

Format = Literal["text", "json"]
CATEGORIES: Final = frozenset(("HEALTH", "MODELS", "CHAT", "STATS", "AUTH", "STORE"))

_TEXT: Final = "%(asctime)s %(levelname)s %(request_id)s %(message)s"
_DATE: Final = "%Y-%m-%d %H:%M:%S"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class JsonLines(JsonFormatter):
    """One JSON object a line: `timestamp` (UTC, RFC 3339), `level`, `category`, `request_id`, `message`, and what an
    event tells in numbers besides, under names of its own."""

    def __init__(self) -> None:
        super().__init__("%(message)s", json_ensure_ascii=False)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """See JsonFormatter."""
        super().add_fields(log_data, record, message_dict)
        more = {name: log_data.pop(name) for name in list(log_data) if name not in ("exc_info", "stack_info")}
        category, _, rest = record.getMessage().partition(" ")
        known = category in CATEGORIES
        more.pop("message", None)
        more.pop("request_id", None)
        log_data["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        log_data["level"] = record.levelname
        log_data["category"] = category if known else "OTHER"
        log_data["request_id"] = getattr(record, "request_id", "-")
        log_data["message"] = rest if known else record.getMessage()
        log_data.update(more)


class TextLines(logging.Formatter):
    """One line of text for each event: what would end it, or move the terminal's cursor, is written as in Python. Only
    the trace of an error follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__(_TEXT, _DATE)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return _CONTROL.sub(lambda sign: repr(sign[0])[1:-1], super().formatMessage(record))


def set_up_log(level: str, form: Format) -> None:
    """Let this program's own lines be written to standard error.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        form: how a line is written.
    """
    # Packages write what they are given when they debug: aiosqlite each row, and with it what people say.
    logging.basicConfig(level=max(logging.getLevelName(level), logging.INFO))
    logging.getLogger("app").setLevel(level)
    logging.captureWarnings(capture=True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(WithRequestId())
        handler.setFormatter(JsonLines() if form == "json" else TextLines())
    # Each request to an engine is our business, not the log's, and so are the steps of a migration.
    for name in ("httpx", "alembic", "watchfiles.main"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # uvicorn's and Chainlit's own steps are not; their errors are.
    for name in ("uvicorn.error", "chainlit"):
        logging.getLogger(name).setLevel(logging.ERROR)
