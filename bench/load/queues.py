"""The queue under load: visitors at a fake Ollama of the real one's measured speed, against the ideal queue.

All is at true speed. The scenarios run beside each other, each with a server and an engine of its own, which wait
most of the time: what one takes of the machine is counted by its own process' CPU time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import psutil

from bench.figures import Figure
from bench.load.attempt import Attempt
from bench.load.crowd import Crowd
from bench.load.ideal import ideal_waits
from bench.load.plan import Plan
from bench.load.results import percentile, results_of
from tests.site import Program, fake_ollama, server

_MAX_WAITING: Final = 16
_AT_ONCE: Final = 0.5  # seconds in which a refusal is there
_CLOSE: Final = 0.10
_CPU: Final = 0.15
_QUESTION: Final = "What would you take along on a walk of three days through the hills?"
_LONGER: Final = f"{_QUESTION} It rains on the first of them, and nobody has a tent that keeps the water out."


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan and the engine that answers.

    Attributes:
        name: for the figures.
        plan: its address is filled in.
        prompt_speed, speed: of the engine, in tokens per second.
    """

    name: str
    plan: Plan
    prompt_speed: float = 55
    speed: float = 17.8


_ANY: Final = Plan("", questions=(_QUESTION,), numbered=True)
SCENARIOS: Final = (
    Scenario(
        "2 visitors taking turns, slow server (26 and 6 tok/s)",
        replace(_ANY, visitors=2, ways=("page",), requests=4, think=1, long=True, questions=(_LONGER,)),
        prompt_speed=26,
        speed=6,
    ),
    Scenario(
        "10 visitors, 30 s between reply and question",
        replace(_ANY, visitors=10, requests=None, duration=90, think=30, arrive=20, long=True, questions=(_LONGER,)),
    ),
    Scenario("100 visitors within a minute", replace(_ANY, visitors=100, requests=1, arrive=60)),
)


def measure(folder: Path) -> list[Figure]:
    """The figures of each scenario."""
    with ExitStack() as stack:
        started = [_start(scenario, folder / str(number), stack) for number, scenario in enumerate(SCENARIOS)]
        found = asyncio.run(_together(_run(*one) for one in started))
    return [figure for figures in found for figure in figures]


async def _together(runs: Iterable[Coroutine[Any, Any, list[Figure]]]) -> list[list[Figure]]:
    return await asyncio.gather(*runs)


def _start(scenario: Scenario, folder: Path, stack: ExitStack) -> tuple[Scenario, Program, Program]:
    """A server and its engine."""
    folder.mkdir()
    keys = [f"a-key-of-program-{number:03}" for number in range(scenario.plan.visitors)]
    speeds = ("--prompt-speed", str(scenario.prompt_speed), "--speed", str(scenario.speed), "--load-seconds", "0")
    ollama = stack.enter_context(fake_ollama(folder, *speeds))
    site = stack.enter_context(
        server(
            folder,
            OLLAMA_HOST=ollama.url,
            API_KEYS=",".join(f"p{number}:{key}" for number, key in enumerate(keys)),
            MAX_WAITING=str(_MAX_WAITING),
            MAX_WAIT="600",
        )
    )
    plan = replace(scenario.plan, url=site.url, tokens=tuple(keys))
    return replace(scenario, plan=plan), site, ollama


async def _run(scenario: Scenario, site: Program, ollama: Program) -> list[Figure]:
    """Run it, and compare."""
    crowd = Crowd(scenario.plan)
    before, began = cpu_seconds(site), time.perf_counter()
    await crowd.run()
    share = (cpu_seconds(site) - before) / (time.perf_counter() - began)
    served = await asyncio.to_thread(ollama.get, "/_fake/state")
    took = {str(one["said"]): float(one["seconds"]) for one in served["served"]}
    return [
        *_ends(scenario.name, crowd.attempts),
        _waiting(scenario.name, crowd.attempts, took),
        Figure(f"{scenario.name}: the app's CPU", f"{share:.1%} of a core", f"under {_CPU:.0%}", share < _CPU),
    ]


def cpu_seconds(site: Program) -> float:
    """CPU time that the server has taken so far, with all its processes."""
    main = psutil.Process(site.process.pid)
    times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def _ends(name: str, attempts: Sequence[Attempt]) -> list[Figure]:
    """How they ended, and how soon who was refused knew it."""
    results = results_of(attempts)
    lost = results.counts["failed"] + results.counts["unfinished"]
    words = f"{lost} lost; {results.counts['replied']} replies, {results.counts['refused']} refusals"
    figures = [Figure(f"{name}: nobody lost", words, "0 lost", lost == 0)]
    if "until refused" in results.figures:
        slowest = results.figures["until refused"][-1]
        goal = f"under {_AT_ONCE} s"
        figures.append(Figure(f"{name}: until a refusal (slowest)", f"{slowest:.2f} s", goal, slowest < _AT_ONCE))
    return figures


def _waiting(name: str, attempts: Sequence[Attempt], took: Mapping[str, float]) -> Figure:
    """What they waited over their own service, against the ideal queue with the same arrivals and services."""
    requests = sorted(attempts, key=lambda attempt: attempt.sent_at)
    usual = fmean(took[one.said] for one in requests if one.said in took)
    ideal = ideal_waits([(one.sent_at, took.get(one.said, usual)) for one in requests], _MAX_WAITING)
    waited = [one.total - took[one.said] for one in requests if one.outcome == "replied" and one.total is not None]
    best = [wait for wait in ideal if wait is not None]
    pairs = ((fmean(waited), fmean(best)), (percentile(waited, 95), percentile(best, 95)))
    words = ", ".join(
        f"{kind} {ours:.2f} s, ideal {theirs:.2f} s ({ours / theirs - 1:+.1%})"
        for kind, (ours, theirs) in zip(("mean", "p95"), pairs, strict=True)
    )
    near = all(abs(ours / theirs - 1) <= _CLOSE for ours, theirs in pairs)
    return Figure(f"{name}: waiting", words, f"within {_CLOSE:.0%} of the ideal queue", near)
