"""`python -m app.doctor [--json]`: looks at everything that this server needs, and says what to do."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import threading
from collections.abc import Sequence
from typing import Final

from app.assembly.answering import answering
from app.command_line import be_quiet
from app.doctor.check import Finding, Patient
from app.doctor.machine import machine_or_none
from app.doctor.report import Report, examine
from app.engines.checkpoint_files import CheckpointError
from app.running import take_over
from app.settings import Settings, read_what_is_allowed
from app.windows import Windows

# Seconds that an engine has to answer; some checks ask twice.
_ENGINE_SECONDS: Final = 2.0
# Seconds after which the report is given up: more than all checks have.
_SECONDS: Final = 8.0
_HANGS: Final = Report(
    (
        Finding(
            "doctor",
            "problem",
            f"nothing was found out within {_SECONDS:g} s",
            "a file that the settings name hangs: .env, the one of API_KEYS, TIKTOKEN_CACHE_DIR",
        ),
    ),
    unfinished=True,
)


def settings_and_what_is_wrong() -> tuple[Settings, Sequence[Finding]]:
    """The settings as far as they can be used, and a finding for each that cannot."""
    unread: list[Finding] = []
    try:
        settings, lines = read_what_is_allowed()
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "it is not text"
        advice = "run this as the server's user; the settings in it are not known here"
        unread = [Finding("settings", "warning", f".env cannot be read ({why})", advice)]
        settings, lines = read_what_is_allowed(_env_file=None)
    wrong = (Finding("settings", "problem", line, "correct it; its default was taken here") for line in lines)
    return settings, [*unread, *wrong]


async def examined(settings: Settings, wrong: Sequence[Finding], *, running: bool) -> Report:
    """The report on a server with these settings."""
    quick = settings.model_copy(update={"models_timeout": min(settings.models_timeout, _ENGINE_SECONDS)})
    # No text is counted here, and the table may be on a disk that hangs.
    quick = quick.model_copy(update={"tiktoken_cache_dir": None})
    try:
        answers = answering(quick, Windows())
    except CheckpointError as problem:
        quick = quick.model_copy(update={"checkpoint": None})
        answers = answering(quick, Windows())
        wrong = [*wrong, Finding("checkpoint", "problem", str(problem), "the server does not start with it")]
    report = await examine(Patient(quick, wrong, answers, machine_or_none(), running))
    if not report.unfinished:
        await answers.close()
    return report


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 all right or warnings only, 1 a problem."""
    parser = argparse.ArgumentParser(
        prog="python -m app.doctor",
        description="Look at everything that this server needs, and say what to do. "
        "Exit code 0: all right, or warnings only; 1: there is a problem.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(words)
    # What went wrong is in the report.
    logging.basicConfig(level=logging.CRITICAL)
    watchdog = threading.Timer(_SECONDS, lambda: _leave(_HANGS, arguments.json))
    watchdog.daemon = True
    watchdog.start()
    running = take_over(os.environ) is not None
    settings, wrong = settings_and_what_is_wrong()
    loop = asyncio.new_event_loop()
    try:
        report = loop.run_until_complete(examined(settings, wrong, running=running))
        watchdog.cancel()
        if report.unfinished:
            _leave(report, arguments.json)
        _print(report, arguments.json)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        be_quiet()
        return 1
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return report.exit_code


def _print(report: Report, as_json: bool) -> None:
    print(report.as_json() if as_json else report.as_table())
    sys.stdout.flush()


def _leave(report: Report, as_json: bool) -> None:
    """Print, and end at once: a thread that waits for a disk would hold the process for as long as that hangs."""
    _print(report, as_json)
    os._exit(report.exit_code)


if __name__ == "__main__":
    raise SystemExit(main())
