"""Write what visitors think of replies as JSON lines, one for each thumb, for training:

python -m app.feedback --since 2026-11-01 --output feedback.jsonl

Each line has the question (`prompt`), the `messages` before it as OpenAI's API names them, the `reply`, the `thumb` (up
or down), the `comment` (null if there is none), the `model` and the `time`. Nothing tells who the visitor is, but for
what the visitor wrote.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, TextIO

from app.command_line import moment, opened, write_out
from app.settings import Settings
from app.storage.database import Database
from app.storage.records import Step, Thumb
from app.storage.thumbs import thumbs_with_steps
from app.transcript import MODEL, QUESTION_TYPE, is_answer


def line_of(thumb: Thumb, steps: Iterable[Step]) -> dict[str, Any] | None:
    """What is written of a thumb; None if it was given to something that no model has said.

    Args:
        thumb: up or down.
        steps: of its conversation up to the one that it was given to, which is the last.
    """
    messages: list[dict[str, str]] = []
    question: str | None = None
    answer: Step | None = None
    last: Step | None = None
    for last in steps:
        if last.type == QUESTION_TYPE:
            if question is not None and answer is not None:
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer.output}]
            question, answer = last.output, None
        elif is_answer(last.type, last.output, last.metadata, is_error=last.is_error):
            answer = last
    if question is None or answer is None or answer is not last:
        return None
    return {
        "prompt": question,
        "messages": messages,
        "reply": answer.output,
        "thumb": "up" if thumb.value else "down",
        "comment": thumb.comment or None,
        "model": answer.metadata.get(MODEL),
        "time": thumb.created_at,
    }


async def write(database: Database, since: str, out: TextIO) -> int:
    """Write the lines; returns how many.

    Raises:
        DatabaseAway, DatabaseRefused: the database cannot be used.
        OSError: what is written to takes nothing.
    """
    written = 0
    async with aclosing(thumbs_with_steps(database, since)) as found:
        async for thumb, steps in found:
            line = line_of(thumb, steps)
            if line is not None:
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                written += 1
    out.flush()
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 written, 1 not written, 2 an argument or a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m app.feedback",
        description="Write what visitors think of replies as JSON lines. The database is that of the settings.",
    )
    parser.add_argument("--since", type=moment, metavar="DATE", help="thumbs given since, as 2026-11-01 or 7d")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write to this file, not to the terminal")
    options = parser.parse_args(arguments)

    async def work(settings: Settings, out: TextIO) -> int:
        async with opened(settings) as database:
            return await write(database, options.since or "", out)

    return write_out(work, options.output, replace=True, unit="lines", undone="no feedback was written")


if __name__ == "__main__":
    raise SystemExit(main())
