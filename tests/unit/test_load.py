"""The load program: against our server with the fake Ollama, and against small servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.load.attempt import Attempt
from bench.load.crowd import Crowd
from bench.load.plan import LoadError, Plan
from bench.load.report import table
from bench.load.results import results_of
from tests.site import Program, clean_environment, fake_ollama, free_port, server

KEY, OTHER_KEY = "first-key-of-this-test", "second-key-of-this-test"
PASSWORD = "green horse staple 7"
SPEED = 100.0


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """An engine that writes 100 tokens a second."""
    arguments = ("--load-seconds", "0", "--speed", str(SPEED), "--prompt-speed", "1000")
    with fake_ollama(tmp_path_factory.mktemp("ollama"), *arguments) as fake:
        yield fake


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, ollama: Program) -> Iterator[Program]:
    """A server on which nobody may wait."""
    keys = f"a:{KEY},b:{OTHER_KEY}"
    with server(tmp_path_factory.mktemp("site"), OLLAMA_HOST=ollama.url, API_KEYS=keys, MAX_WAITING="0") as program:
        yield program


async def run(plan: Plan) -> list[Attempt]:
    crowd = Crowd(plan)
    await crowd.run()
    return crowd.attempts


def load(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The program, as anyone starts it."""
    command = [sys.executable, "-m", "bench.load", *arguments]
    environment = clean_environment(**variables)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


@pytest.mark.parametrize("way", ["page", "v1"])
async def test_the_figures_of_a_reply_are_those_of_the_engine(site: Program, way: Any) -> None:
    plan = Plan(site.url, visitors=1, ways=(way,), requests=3, think=0, tokens=(KEY,), questions=("!words 20",))
    attempts = await run(plan)
    assert [attempt.outcome for attempt in attempts] == ["replied"] * 3
    for attempt in attempts[1:]:  # the first finds a server that has never replied
        assert attempt.tokens == 20
        assert attempt.text.split()[:3] == ["the", "quick", "brown"]
        assert attempt.speed == pytest.approx(SPEED, rel=0.4)  # the page gathers what comes within 50 ms
        assert 0.01 < (attempt.first_token or 0) < 0.2
        assert 0.2 < (attempt.total or 0) < 0.5


@pytest.mark.parametrize("way", ["page", "v1"])
async def test_who_is_turned_away_at_once_is_refused_and_not_lost(site: Program, way: Any) -> None:
    plan = Plan(site.url, visitors=3, ways=(way,), requests=1, tokens=(KEY, OTHER_KEY), questions=("!words 150",))
    attempts = await run(plan)
    results = results_of(attempts)
    assert (results.counts["replied"], results.counts["refused"]) == (1, 2)
    assert results.nobody_lost
    assert results.figures["until refused"][-1] < 0.5
    assert any("waiting" in problem for problem in results.problems)


async def test_who_waits_is_told_his_place_on_the_page(tmp_path: Path, ollama: Program) -> None:
    with server(tmp_path, OLLAMA_HOST=ollama.url) as site:
        attempts = await run(Plan(site.url, visitors=3, ways=("page",), requests=1, questions=("!words 100",)))
    assert [attempt.outcome for attempt in attempts] == ["replied"] * 3
    last = max(attempts, key=lambda attempt: attempt.total or 0)
    assert last.place == 2
    assert 1.5 < last.told_to_wait < 3


async def test_what_still_comes_of_a_reply_that_took_too_long_is_not_the_next_ones(
    tmp_path: Path, ollama: Program
) -> None:
    questions = ("!words 900", "!echo short")
    with server(tmp_path, OLLAMA_HOST=ollama.url, AWAY_SECONDS="0.1") as site:
        plan = Plan(site.url, visitors=1, ways=("page",), requests=2, think=0, long=True, patience=3)
        first, second = await run(replace(plan, questions=questions))
    assert (first.outcome, second.outcome) == ("failed", "replied")
    assert second.text == "short"


async def test_a_long_chat_sends_all_that_was_said_and_a_short_one_only_the_question(
    site: Program, ollama: Program
) -> None:
    for long, lengths in ((False, [1, 1]), (True, [1, 3])):
        before = len(ollama.get("/_fake/state")["requests"])
        for way in ("page", "v1"):
            plan = Plan(site.url, visitors=1, ways=(way,), requests=2, think=0, tokens=(KEY,), long=long)
            await run(plan)
        requests = [request["messages"] for request in ollama.get("/_fake/state")["requests"][before:]]
        assert [len(messages) for messages in requests if messages] == lengths * 2


async def test_visitors_ask_until_the_time_is_over(site: Program) -> None:
    plan = Plan(site.url, visitors=1, ways=("v1",), requests=None, duration=1, think=0.01, tokens=(KEY,))
    attempts = await run(plan)
    assert len(attempts) > 2
    assert all(attempt.sent_at < 1 for attempt in attempts)
    assert all(attempt.outcome == "replied" for attempt in attempts)


@pytest.mark.parametrize("way", ["page", "v1"])
async def test_a_server_that_is_killed_in_mid_reply_is_an_error(tmp_path: Path, ollama: Program, way: Any) -> None:
    with server(tmp_path, OLLAMA_HOST=ollama.url) as site:
        crowd = Crowd(Plan(site.url, visitors=1, ways=(way,), requests=2, think=0, questions=("!words 2000",)))
        running = asyncio.create_task(crowd.run())
        while not (running.done() or (crowd.attempts and crowd.attempts[0].pieces)):
            await asyncio.sleep(0.01)
        site.kill()
        await running
    assert [attempt.outcome for attempt in crowd.attempts] == ["failed", "failed"]
    assert all(attempt.problem for attempt in crowd.attempts)
    assert not results_of(crowd.attempts).nobody_lost
    assert "2 got neither a reply nor a clear refusal" in table(crowd.attempts, crowd.seconds)


class Links(HTMLParser):
    """The addresses and the plots of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.plots = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.outside += [value for name in ("src", "href") if (value := values.get(name))]
        self.plots += "plotly-graph-div" in (values.get("class") or "")


def test_the_program_prints_a_table_and_writes_a_page_with_plots_and_json(tmp_path: Path, site: Program) -> None:
    html, data = tmp_path / "load.html", tmp_path / "load.json"
    options = ("--visitors", "2", "--requests", "2", "--think", "0", "--html", str(html), "--json", str(data))
    done = load(site.url, *options, "--say", "<b>& how</b>", LOAD_TOKEN=KEY)
    assert done.returncode == 0, done.stderr
    assert "all: 4 requests" in done.stdout
    assert "nobody is lost" in done.stdout
    links = Links()
    links.feed(html.read_text(encoding="utf-8"))
    assert links.plots == 4
    assert links.outside == []
    found = json.loads(data.read_text(encoding="utf-8"))
    assert sum(found["results"]["all"]["counts"].values()) == 4
    assert {attempt["way"] for attempt in found["attempts"]} == {"page", "v1"}
    assert KEY not in html.read_text(encoding="utf-8") + data.read_text(encoding="utf-8") + done.stdout


def test_ctrl_c_prints_what_there_is_so_far(site: Program, ollama: Program) -> None:
    before = len(ollama.get("/_fake/state")["served"])
    command = [sys.executable, "-m", "bench.load", site.url, "--visitors", "1", "--over", "v1", "--duration", "60"]
    process = subprocess.Popen(
        [*command, "--think", "0.1", "--token", KEY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    while process.poll() is None and len(ollama.get("/_fake/state")["served"]) < before + 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "requests: " in out
    assert "Traceback" not in err


def test_help_tells_of_the_options() -> None:
    done = load("--help")
    assert done.returncode == 0
    assert "--visitors" in done.stdout
    assert "examples:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((f"http://127.0.0.1:{free_port()}",), "start the server, or check the address"),
        (("SITE", "--over", "v1"), "--token"),
        (("SITE", "--over", "v1", "--token", KEY, "--model", "none"), "no model none; it has ollama/gemma2:2b"),
        (("OLLAMA", "--over", "page"), "no page of ours"),
        (("OLLAMA", "--over", "v1"), "is this a server with /v1?"),
    ],
)
def test_what_keeps_it_from_beginning_is_said_in_one_line(
    site: Program, ollama: Program, arguments: tuple[str, ...], words: str
) -> None:
    urls = {"SITE": site.url, "OLLAMA": ollama.url}
    done = load(*(urls.get(argument, argument) for argument in arguments))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_no_address_is_said() -> None:
    done = load("chat.example.org")
    assert done.returncode == 2
    assert "write http://HOST:PORT" in done.stderr


async def test_where_people_sign_in_the_page_wants_a_login(tmp_path: Path, ollama: Program) -> None:
    with server(tmp_path, OLLAMA_HOST=ollama.url, AUTH="password", SIGNUP="on") as site:
        plan = Plan(site.url, visitors=1, ways=("page",), requests=1)
        with pytest.raises(LoadError, match="--login NAME:PASSWORD"):
            await run(plan)
        site.post("/api/auth/register", {"name": "ann", "password": PASSWORD})
        signed_in = Plan(site.url, visitors=1, ways=("page",), requests=1, login=("ann", PASSWORD))
        attempts = await run(signed_in)
        wrong = Plan(site.url, visitors=1, ways=("page",), requests=1, login=("ann", "wrong"))
        refused = await run(wrong)
    assert [attempt.outcome for attempt in attempts] == ["replied"]
    assert [attempt.outcome for attempt in refused] == ["failed"]
    assert "/login" in refused[0].problem
