"""What keeping conversations costs: in a turn, and when they are listed and opened again.

The same server keeps them in SQLite, in PostgreSQL (with its own settings: a commit is on the disk when it is
answered), and not at all (HISTORY=off). They are asked one after the other, so that what else the machine does falls on
all. A reply takes a tenth of a second, most take far longer: its question is stored meanwhile.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import pytest

from bench.figures import Figure, skipped
from tests.many import fill, name_of
from tests.postgres import Postgres
from tests.site import CHROMIUM_ARGUMENTS, Program, chromium, fake_ollama, server
from tests.tab import Tab, Visitor, new_id, question

_TURNS: Final = 400
_TURNS_OF_A_CONVERSATION: Final = 20
_WARM_UP: Final = 10
_OPENED: Final = 20
_MANY: Final = 10_000
_LONG: Final = 100  # turns, so 200 messages
_PAGE: Final = 35  # the page asks for so many

_ADDED: Final = "added to a turn by storage, {}"
_BEFORE: Final = "added before the first token by storage, {}"
_OPEN: Final = "a conversation of 200 messages opened, {}"
_LIST: Final = "the list of a visitor with 10,000 conversations, {}"
_SEARCH: Final = "a search in them that finds something, and one that finds nothing, {}"

# Runs in the page before all else: notes when the list is drawn.
_WATCH_LIST: Final = """
const look = () => document.querySelector('a[href^="/thread/"]')
  ? window.listDrawn = performance.now()
  : requestAnimationFrame(look);
look();
"""
_LIST_SECONDS: Final = """
() => {
  const asked = performance.getEntriesByType('resource').find(entry => entry.name.endsWith('/project/threads'));
  return asked && window.listDrawn ? (window.listDrawn - asked.startTime) / 1000 : null;
}
"""
# From the click on a conversation until all of its replies are drawn.
_OPEN_SECONDS: Final = """
([thread, replies]) => new Promise(resolve => {
  const began = performance.now();
  const look = () => document.querySelectorAll('.ai-message').length >= replies
    ? resolve((performance.now() - began) / 1000)
    : requestAnimationFrame(look);
  document.querySelector(`a[href="/thread/${thread}"]`).click();
  look();
})
"""


@dataclass
class _Times:
    """Seconds from sending a message to the reply's first text, and to its end."""

    first: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)


class _Talker:
    """A visitor who asks one message after another."""

    def __init__(self, url: str) -> None:
        self._visitor = Visitor(url)
        self._tab = Tab(self._visitor)
        self._asked = 0
        self.times = _Times()

    def ask(self) -> None:
        if self._asked % _TURNS_OF_A_CONVERSATION == 0:
            self._tab.leave(for_good=True)
            self._tab = Tab(self._visitor)
            self._tab.wait_for("chat_settings")
        self._asked += 1
        began = time.perf_counter()
        self._tab.send("client_message", question("!words 20", new_id()))
        self._tab.wait_for("stream_start")
        first = time.perf_counter() - began
        self._tab.wait_for("task_end")
        end = time.perf_counter() - began
        if self._asked > _WARM_UP:
            self.times.first.append(first)
            self.times.end.append(end)

    def close(self) -> None:
        self._tab.leave()
        self._visitor.close()


def _p99(times: list[float]) -> float:
    return quantiles(times, n=100)[98]


def _turns(sites: dict[str, Program]) -> dict[str, _Times]:
    talkers = {name: _Talker(site.url) for name, site in sites.items()}
    for _ in range(_WARM_UP + _TURNS):
        for talker in talkers.values():
            talker.ask()
    for talker in talkers.values():
        talker.close()
    return {name: talker.times for name, talker in talkers.items()}


def _added(times: dict[str, _Times], name: str) -> list[Figure]:
    without, kept = times[_OFF], times[name]
    middle, worst = median(kept.end) - median(without.end), _p99(kept.end) - _p99(without.end)
    first = median(kept.first) - median(without.first)
    return [
        Figure(
            _ADDED.format(name),
            f"{1e3 * middle:.1f} ms, p99 {1e3 * worst:.1f} ms",
            "under 5 ms, p99 under 20 ms",
            middle < 0.005 and worst < 0.02,
        ),
        Figure(_BEFORE.format(name), f"{1e3 * first:.1f} ms", "nothing (under 1 ms)", first < 0.001),
    ]


def _median_of(work: Callable[[], object], times: int = _OPENED) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def _open(visitor: Visitor, thread: str) -> float:
    """From the page's connection to the whole conversation, in seconds."""

    def once() -> None:
        with Tab(visitor, thread_id=thread) as tab:
            tab.wait_for("resume_thread")

    return _median_of(once)


def _list(visitor: Visitor, search: str | None, found: int) -> float:
    body = {"pagination": {"first": _PAGE}, "filter": {"search": search} if search else {}}

    def once() -> None:
        answer = visitor.http.post("/project/threads", json=body)
        if len(answer.json()["data"]) != found:
            raise RuntimeError(f"{search!r} found something else: {answer.text[:200]}")

    return _median_of(once, 5 if search else _OPENED)


def _on_screen(visitor: Visitor, thread: str) -> tuple[float, float] | None:
    """In Chromium: from asking for the list, and from the click on the conversation, until each is drawn."""
    path = chromium()
    if path is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        context = browser.new_context(locale="en-US", viewport={"width": 1100, "height": 800})
        context.add_cookies(
            [{"name": name, "value": value, "url": visitor.url} for name, value in visitor.http.cookies.items()]
        )
        page = context.new_page()
        page.add_init_script(_WATCH_LIST)
        listed, opened = [], []
        for _ in range(5):
            page.goto(visitor.url)
            page.locator("#chat-settings-open-modal").wait_for()
            listed.append(float(page.wait_for_function(_LIST_SECONDS).json_value()))
            page.wait_for_timeout(500)  # the page has come to rest
            opened.append(float(page.evaluate(_OPEN_SECONDS, [thread, _LONG])))
        browser.close()
    return median(listed), median(opened)


def _lists(name: str, url: str, site: Program) -> list[Figure]:
    with Visitor(site.url) as visitor:
        identifier = name_of(visitor)
        asyncio.run(fill(url, identifier, _MANY))
        [thread] = asyncio.run(fill(url, identifier, 1, turns=_LONG))
        # The long one is the newest, so it is on top of the list.
        with Tab(visitor, thread_id=thread) as tab:
            tab.wait_for("resume_thread")
            tab.ask("!nodelay 5")
        rows = [
            (_OPEN.format(f"{name}, over its socket"), _open(visitor, thread)),
            (_LIST.format(f"{name}, over HTTP"), _list(visitor, None, _PAGE)),
        ]
        found, nothing = _list(visitor, "of conversation 77", _PAGE), _list(visitor, "nowhere said", 0)
        screen = _on_screen(visitor, thread)
    goal = "under 300 ms"
    if screen is not None:
        rows.insert(1, (_OPEN.format(f"{name}, from click to screen in Chromium"), screen[1]))
        rows.append((_LIST.format(f"{name}, on screen in Chromium"), screen[0]))
    figures = [Figure(what, f"{1e3 * seconds:.0f} ms", goal, seconds < 0.3) for what, seconds in rows]
    if screen is None:
        figures += [skipped(what.format(f"{name}, in Chromium"), "no Chromium", goal) for what in (_OPEN, _LIST)]
    value = f"{1e3 * found:.0f} ms, {1e3 * nothing:.0f} ms"
    return [*figures, Figure(_SEARCH.format(name), value, "none", None)]


_OFF: Final = "HISTORY=off"
_SQLITE: Final = "SQLite"
_POSTGRES: Final = "PostgreSQL"


@contextmanager
def _postgres() -> Iterator[tuple[str, str]]:
    """The URL of an empty database, or why there is none."""
    try:
        server = Postgres(durable=True)
    except pytest.skip.Exception as reason:
        yield "", str(reason)
        return
    try:
        server.start()
        yield server.url(asyncio.run(server.new_database())), ""
    finally:
        server.remove()


def measure() -> list[Figure]:
    """Turns, lists and conversations, by each database."""
    at_once = ("--prompt-speed", "1000000", "--load-seconds", "0", "--speed", "200")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        ollama = stack.enter_context(fake_ollama(folder, *at_once))
        postgres, missing = stack.enter_context(_postgres())
        sites, urls = {}, {_SQLITE: f"sqlite+aiosqlite:///{folder}/{_SQLITE}/data/chat.db", _POSTGRES: postgres}
        settings: dict[str, dict[str, str]] = {_OFF: {"HISTORY": "off"}, _SQLITE: {}}
        if postgres:
            settings[_POSTGRES] = {"DATABASE_URL": postgres}
        for kind, variables in settings.items():
            (folder / kind).mkdir()
            sites[kind] = stack.enter_context(server(folder / kind, OLLAMA_HOST=ollama.url, **variables))
        times = _turns(sites)
        kept = [kind for kind in sites if kind != _OFF]
        figures = [figure for kind in kept for figure in _added(times, kind)]
        figures += [figure for kind in kept for figure in _lists(kind, urls[kind], sites[kind])]
    if missing:
        figures.append(skipped("the same with PostgreSQL", missing, "as above"))
    return figures
