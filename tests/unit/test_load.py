"""The load program: against our server with the fake Ollama, and against small servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bench.load.attempt import Attempt
from bench.load.crowd import Crowd
from bench.load.ideal import ideal_waits
from bench.load.plan import LoadError, Plan
from bench.load.report import table
from bench.load.results import MEASURES, percentile, results_of
from tests.fakes.listener import Listener
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


@asynccontextmanager
async def serving(answer: Callable[[], Response]) -> AsyncIterator[str]:
    """A server with /v1 that answers every request so."""

    async def models(_: Request) -> Response:
        return JSONResponse({"data": [{"id": "one"}]})

    async def chat(_: Request) -> Response:
        return answer()

    listener = Listener(
        Starlette(routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])]), 0
    )
    await listener.start()
    yield f"http://127.0.0.1:{listener.port}"
    await listener.stop()


def stream(*events: Any) -> Response:
    """Events of a stream; text as it stands."""

    async def lines() -> AsyncIterator[str]:
        for event in events:
            yield event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


PIECE = {"choices": [{"delta": {"content": "word"}}]}


@pytest.mark.parametrize(
    ("answer", "outcome", "problem"),
    [
        (lambda: stream(PIECE, PIECE, "data: [DONE]\n\n"), "replied", ""),
        (lambda: stream(PIECE, PIECE), "failed", "stopped before"),
        (lambda: stream(PIECE, {"error": {"message": "broke", "code": "engine_failed"}}), "failed", "broke"),
        (lambda: stream({"error": {"message": "late", "code": "waited_too_long"}}), "refused", "late"),
        (lambda: JSONResponse({"error": {"message": "full"}}, 429), "refused", "429: full"),
        (lambda: JSONResponse({"error": "bad"}, 500), "failed", "500: bad"),
        (lambda: Response("<html>", 502), "failed", "502: <html>"),
    ],
)
async def test_only_a_whole_reply_is_one(answer: Callable[[], Response], outcome: str, problem: str) -> None:
    async with serving(answer) as url:
        attempt = (await run(Plan(url, visitors=1, ways=("v1",), requests=1)))[0]
    assert attempt.outcome == outcome
    assert problem in attempt.problem


async def test_places_and_waiting_are_read_from_the_comments_of_a_stream() -> None:
    comments = (": waiting, 3 before you, about 40 s\n\n", ": waiting, 1 before you\n\n", ": reading\n\n")
    async with serving(lambda: stream(*comments, PIECE, "data: [DONE]\n\n")) as url:
        attempt = (await run(Plan(url, visitors=1, ways=("v1",), requests=1)))[0]
    assert attempt.place == 3
    assert 0 < attempt.told_to_wait < 1


async def test_a_request_without_an_end_has_failed_when_the_patience_is_over() -> None:
    async def silence() -> AsyncIterator[str]:
        yield ": working\n\n"
        await asyncio.sleep(5)

    async with serving(lambda: StreamingResponse(silence())) as url:
        attempt = (await run(Plan(url, visitors=1, ways=("v1",), requests=1, patience=0.2)))[0]
    assert attempt.outcome == "failed"
    assert "0.2 s" in attempt.problem


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


def test_arrivals_are_spread_and_the_same_for_the_same_seed() -> None:
    plan = Plan("", visitors=100, arrive=60)
    assert plan.arrivals() == plan.arrivals() == sorted(plan.arrivals())
    assert 0 <= plan.arrivals()[0] < 5
    assert 55 < plan.arrivals()[-1] <= 60
    assert set(Plan("", visitors=5).arrivals()) == {0}


def test_half_of_the_visitors_come_each_way_and_have_the_keys_in_turn() -> None:
    plan = Plan("", visitors=4, tokens=("x", "y"))
    assert [plan.way(number) for number in range(4)] == ["page", "v1", "page", "v1"]
    assert [plan.token(number) for number in (1, 3, 5)] == ["x", "y", "x"]


def test_percentiles_lie_between_the_values() -> None:
    assert percentile([5], 99) == 5
    assert percentile([1, 2, 3, 4, 5], 50) == 3
    assert percentile([0, 10], 95) == pytest.approx(9.5)


def test_the_percentiles_of_a_speed_are_those_of_the_slow_ones() -> None:
    seconds, speed = (next(one for one in MEASURES if one.name == name) for name in ("whole reply", "speed"))
    values = [float(number) for number in range(101)]
    assert seconds.figures(values) == [50, 95, 99, 100]
    assert speed.figures(values) == [50, 5, 1, 0]


def test_the_ideal_queue_serves_in_order_and_turns_away_who_finds_no_place() -> None:
    assert ideal_waits([(0, 10), (1, 10), (2, 10), (12, 5)], max_waiting=1) == [0, 9, None, 8]
    assert ideal_waits([(0, 1), (5, 1)], max_waiting=0) == [0, 0]
    assert ideal_waits([(0, 2), (1, 1)], max_waiting=0) == [0, None]
