"""Write the log of requests as CSV or JSON lines, a row for each reply:

python -m app.requests export --since 7d --output requests.csv

Times are in UTC. A text in a CSV that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final, TextIO, get_args

from app.asker import Source
from app.command_line import Failed, moment, opened, write_out
from app.settings import Settings
from app.storage.database import Database
from app.storage.requests import RequestRow, Requests

Writer = Callable[[RequestRow], None]

# What a cell begins with that a spreadsheet runs: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_writer(out: TextIO) -> Writer:
    """Writes rows as CSV, with a line of names above the first."""
    rows = csv.writer(out, lineterminator="\n")
    begun = False

    def write(row: RequestRow) -> None:
        nonlocal begun
        if not begun:
            begun = True
            rows.writerow(field.name for field in fields(RequestRow))
        rows.writerow(_cell(value) for value in asdict(row).values())

    return write


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def jsonl_writer(out: TextIO) -> Writer:
    """Writes rows as JSON, one a line."""

    def write(row: RequestRow) -> None:
        out.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")

    return write


_FORMATS: Final = {"csv": csv_writer, "jsonl": jsonl_writer}


async def export(database: Database, write: Writer, since: str = "", until: str = "", source: str = "") -> int:
    """Write the rows of a time, the oldest first; returns how many.

    Raises:
        DatabaseAway, DatabaseRefused: the database cannot be used.
        OSError: what is written to takes nothing.
    """
    written = 0
    async with aclosing(Requests(database).between(since, until, source)) as rows:
        async for row in rows:
            write(row)
            written += 1
    return written


async def _export(settings: Settings, options: argparse.Namespace, out: TextIO) -> int:
    async with opened(settings) as database:
        write = _FORMATS[options.format](out)
        count = await export(database, write, options.since or "", options.until or "", options.source or "")
    out.flush()
    return count


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app.requests", description="The log of requests. The database is that of the settings."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    exports = commands.add_parser(
        "export",
        help="write it as CSV or JSON lines",
        description="Write a row for each reply, the oldest first; times are in UTC. A text in a CSV that a "
        "spreadsheet would take for a formula begins with an apostrophe.",
    )
    exports.add_argument("--format", choices=_FORMATS, default="csv", help="csv, if nothing is said")
    exports.add_argument(
        "--since", type=moment, metavar="TIME", help="from then on: 2026-11-01, 7d (days), 24h (hours)"
    )
    exports.add_argument("--until", type=moment, metavar="TIME", help="before then")
    exports.add_argument("--source", choices=get_args(Source), help="of the page or one API only")
    exports.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write to this new file, not to the terminal"
    )
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 written, 1 not written, 2 an argument or a setting is wrong."""
    parser = _arguments()
    options = parser.parse_args(words)
    if options.since and options.until and options.since >= options.until:
        parser.error("--since is not before --until")

    async def work(settings: Settings, out: TextIO) -> int:
        count = await _export(settings, options, out)
        if not count:
            chosen = options.since or options.until or options.source
            raise Failed("no such request is in the log" if chosen else "the log of requests is empty")
        return count

    return write_out(work, options.output, replace=False, unit="rows", undone="nothing was exported")


if __name__ == "__main__":
    raise SystemExit(main())
