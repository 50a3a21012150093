"""`python -m bench.load URL`: put load on a server with our page or /v1. Exit codes: 0 nobody was lost, 1 somebody was,
2 it could not begin, 130 Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.load.attempt import Way
from bench.load.crowd import Crowd
from bench.load.plan import QUESTIONS, LoadError, Plan
from bench.load.report import table, write_json
from bench.load.results import results_of

_WAYS: Final[dict[str, tuple[Way, ...]]] = {"page": ("page",), "v1": ("v1",), "both": ("page", "v1")}
_REQUESTS: Final = 3
_DESCRIPTION: Final = """\
Put load on a server: visitors with the page open in browsers (over its websocket) and programs (over /v1), who ask,
read the reply, think, and ask again. Prints how long they waited and what they got."""
_EPILOG: Final = """\
examples:
  python -m bench.load http://localhost:8000
  python -m bench.load http://localhost:8000 --visitors 100 --arrive 60 --requests 1 --html load.html
  python -m bench.load http://localhost:8000 --visitors 10 --think 30 --duration 300 --long
  python -m bench.load https://api.example.org --over v1 --token KEY1 --token KEY2 --model NAME

Programs that come from one address without keys of their own, and visitors with one login, are one visitor to the
server and take turns as one."""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("0 or more seconds")
    return number


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text} is no address: write http://HOST:PORT")
    return text.rstrip("/").removesuffix("/v1")


def _login(text: str) -> tuple[str, str]:
    name, colon, password = text.partition(":")
    if not colon or not name:
        raise argparse.ArgumentTypeError("NAME:PASSWORD is wanted")
    return name, password


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m bench.load",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("url", type=_url, metavar="URL", help="of the server: http://HOST:PORT")
    add("--visitors", type=_positive, default=10, metavar="N", help="how many come (default: 10)")
    add(
        "--over",
        choices=_WAYS,
        default="both",
        help="half of them over the page, half over /v1 (default), or all one way",
    )
    add(
        "--requests",
        type=_positive,
        metavar="N",
        help=f"that each visitor makes (default: {_REQUESTS} without --duration)",
    )
    add(
        "--duration",
        type=_seconds,
        metavar="SECONDS",
        help="in which they go on asking; the last replies are waited for",
    )
    add(
        "--think",
        type=_seconds,
        default=10,
        metavar="SECONDS",
        help="between a reply and the next question, on average (default: 10)",
    )
    add(
        "--arrive", type=_seconds, default=0, metavar="SECONDS", help="within which they come (default: 0, all at once)"
    )
    add("--long", action="store_true", help="a visitor's questions make one conversation (default: one each)")
    add("--model", default="", help="who answers (default: the server's choice)")
    add("--say", action="append", metavar="TEXT", help="a question; give several (default: some of ordinary length)")
    add(
        "--token", action="append", metavar="KEY", help="key for /v1; give several for several programs (or LOAD_TOKEN)"
    )
    add("--login", type=_login, metavar="NAME:PASSWORD", help="for the page, where it wants one (or LOAD_LOGIN)")
    add(
        "--patience",
        type=_seconds,
        default=600,
        metavar="SECONDS",
        help="after which a request has failed (default: 600)",
    )
    add("--seed", type=int, default=1, help="of all that is random (default: 1)")
    add("--html", type=Path, metavar="FILE", help="write a page with plots; it needs nothing from outside")
    add("--json", type=Path, metavar="FILE", help="write all figures and each request")
    return made


def plan_of(chosen: argparse.Namespace) -> Plan:
    """What the command line says."""
    tokens = chosen.token or os.environ.get("LOAD_TOKEN", "").split()
    login = chosen.login or (_login(os.environ["LOAD_LOGIN"]) if os.environ.get("LOAD_LOGIN") else None)
    return Plan(
        chosen.url,
        visitors=chosen.visitors,
        ways=_WAYS[chosen.over],
        requests=chosen.requests or (None if chosen.duration else _REQUESTS),
        duration=chosen.duration,
        think=chosen.think,
        arrive=chosen.arrive,
        long=chosen.long,
        model=chosen.model,
        tokens=tuple(tokens),
        login=login,
        questions=chosen.say or QUESTIONS,
        patience=chosen.patience,
        seed=chosen.seed,
    )


async def _run(crowd: Crowd) -> bool:
    """Let them come; Ctrl-C ends it. Returns whether it came to its end."""
    running = asyncio.ensure_future(crowd.run(_tell if sys.stderr.isatty() else lambda _: None))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, running.cancel)
    with suppress(asyncio.CancelledError):
        await running
    return not running.cancelled()


def _tell(crowd: Crowd) -> None:
    counts = results_of(crowd.attempts).counts
    parts = (f"{count} {'under way' if outcome == 'unfinished' else outcome}" for outcome, count in counts.items())
    line = f"{crowd.seconds:.0f} s: {', '.join(parts)}"
    print(f"\r{line}   ", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Run it; returns the exit code."""
    chosen = parser().parse_args()
    for path in filter(None, (chosen.html, chosen.json)):
        if not path.parent.is_dir():
            print(f"bench.load: there is no folder {path.parent}", file=sys.stderr)
            return 2
    plan = plan_of(chosen)
    crowd = Crowd(plan)
    try:
        whole = asyncio.run(_run(crowd))
    except LoadError as problem:
        print(f"bench.load: {problem}", file=sys.stderr)
        return 2
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(table(crowd.attempts, crowd.seconds))
    if chosen.json:
        write_json(chosen.json, plan, crowd.attempts, crowd.seconds)
    if chosen.html:
        from bench.load.plots import write_html

        write_html(chosen.html, plan, crowd.attempts, crowd.seconds)
    if not whole:
        print("bench.load: ended before its time", file=sys.stderr)
        return 130
    return 0 if results_of(crowd.attempts).nobody_lost else 1


if __name__ == "__main__":
    sys.exit(main())
