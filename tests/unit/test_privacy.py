"""What a stranger gets who knows every id of another visitor's conversation: nothing, by any route or socket event.

Ann has the conversation. Eve is another visitor, with a good cookie and a conversation of her own; nobody is a client
without any cookie. Chainlit's published advisories are among the cases.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import chainlit.socket  # noqa: F401 - registers the events
import jwt
import pytest
from chainlit.server import app as chainlit_app
from chainlit.server import router, sio
from starlette.routing import BaseRoute

from app.page.closed import CLOSED, is_closed
from app.settings import ROOT
from tests.site import Program, fake_ollama, server
from tests.tab import Tab, Visitor, new_id, question

SECRET: Final = "the-cat-is-called-Bartholomew"
TAKEN: Final = "eve-was-here"

# The page and what it is made of: the same for everybody, no id, nothing written.
COMMON: Final = {
    ("GET", "/public/{filename:path}"),
    ("GET", "/assets/{filename:path}"),
    ("GET", "/avatars/{avatar_id:str}"),
    ("GET", "/favicon"),
    ("GET", "/logo"),
    ("GET", "/auth/config"),
    ("GET", "/project/translations"),
    ("GET", "/health"),
    ("HEAD", "/"),
    ("GET", "/{full_path:path}"),
}
# Who one is: each concerns the caller's own cookie alone.
IDENTITY: Final = {
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/auth/header"),
    ("GET", "/auth/oauth/{provider_id}"),
    ("GET", "/auth/oauth/{provider_id}/callback"),
    ("POST", "/auth/oauth/azure-ad-hybrid/callback"),
    ("GET", "/user"),
    ("GET", "/project/settings"),
    ("POST", "/set-session-cookie"),
}
# What takes an id; each is in ATTEMPTS.
OWN: Final = {
    ("PUT", "/feedback"),
    ("DELETE", "/feedback"),
    ("POST", "/project/threads"),
    ("GET", "/project/thread/{thread_id}"),
    ("GET", "/project/thread/{thread_id}/element/{element_id}"),
    ("PUT", "/project/thread"),
    ("DELETE", "/project/thread"),
    ("POST", "/project/action"),
}
SHUT: Final = {
    ("POST", "/mcp"),
    ("DELETE", "/mcp"),
    ("PUT", "/project/element"),
    ("DELETE", "/project/element"),
    ("POST", "/project/file"),
    ("GET", "/project/file/{file_id}"),
    ("GET", "/project/share/{thread_id}"),
    ("PUT", "/project/thread/share"),
    ("POST", "/auth/jwt"),
    ("GET", "/copilot/{filename:path}"),
    ("GET", "/docs/oauth2-redirect"),
}
# In their place stand those of our own API, see app/api/docs.py.
OURS: Final = {("GET", "/openapi.json"), ("GET", "/docs"), ("GET", "/redoc")}
EVENTS: Final = {
    "connect",
    "connection_successful",
    "clear_session",
    "disconnect",
    "stop",
    "edit_message",
    "message_favorite",
    "fetch_favorites",
    "client_message",
    "window_message",
    "audio_start",
    "audio_chunk",
    "audio_end",
    "chat_settings_change",
    "chat_settings_edit",
}


@dataclass
class Ann:
    """A visitor with a conversation, and all that a stranger may know of it."""

    visitor: Visitor
    tab: Tab
    thread: str
    question: str
    answer: str
    element: str
    feedback: str
    cursor: str
    whole: dict[str, Any] = field(default_factory=dict)

    @property
    def session(self) -> str:
        return str(self.tab.session_id)

    def unchanged(self) -> bool:
        """Whether the conversation is as it was, to the letter."""
        self.tab.listen(0.15)  # what the server does after it has answered; Ann's page answers its pings meanwhile
        return self.visitor.thread(self.thread) == self.whole


def threads_of(visitor: Visitor) -> list[dict[str, Any]]:
    answer = visitor.call("POST", "/project/threads", {"pagination": {"first": 50}, "filter": {}})
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


@pytest.fixture(scope="module", params=["off", "password"])
def login(request: pytest.FixtureRequest) -> str:
    """Without a login, where a visitor is who has the cookie; and with one."""
    return str(request.param)


@pytest.fixture(scope="module")
def site(login: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("privacy")
    ways = {"AUTH": login, "SIGNUP": "on", "LOGIN_TRIES": "1000"}
    with fake_ollama(folder, "--speedup", "100") as ollama, server(folder, OLLAMA_HOST=ollama.url, **ways) as program:
        yield program


@pytest.fixture(scope="module")
def ann(site: Program) -> Iterator[Ann]:
    with Visitor(site.url) as visitor, Tab(visitor) as tab:
        asked = tab.ask(f"Remember: {SECRET}")
        first = threads_of(visitor)[0]["id"]
        with Tab(visitor) as another:  # so that there is a second page of the list, and a cursor
            another.ask(f"And again: {SECRET}")
        listed = visitor.call("POST", "/project/threads", {"pagination": {"first": 1}, "filter": {}}).json()
        said, answered = visitor.thread(first)["steps"]
        assert said["id"] == asked
        assert SECRET in answered["output"]
        thumb = {"feedback": {"forId": answered["id"], "value": 1, "comment": SECRET}, "sessionId": tab.session_id}
        given = visitor.call("PUT", "/feedback", thumb).json()
        whole = visitor.thread(first)
        yield Ann(
            visitor,
            tab,
            first,
            asked,
            answered["id"],
            whole["elements"][0]["id"],
            given["feedbackId"],
            listed["pageInfo"]["endCursor"],
            whole,
        )


@pytest.fixture
def eve(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        yield visitor


@pytest.fixture
def nobody(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url, known=False) as visitor:
        yield visitor


@pytest.fixture(autouse=True)
def _no_internal_error(site: Program) -> Iterator[None]:
    before = site.text().count("Exception in ASGI application")
    yield
    assert site.text().count("Exception in ASGI application") == before


@dataclass(frozen=True)
class Attempt:
    """One request of a stranger's. In its path and body `{name}` is an attribute of Ann's.

    Attributes:
        stranger: what Eve is answered.
        nobody: what a client without a cookie is answered.
    """

    route: tuple[str, str]
    path: str
    body: Any = None
    stranger: int = 404
    nobody: int = 401

    def of(self, ann: Ann) -> tuple[str, str, Any]:
        def filled(part: Any) -> Any:
            if isinstance(part, dict):
                return {name: filled(value) for name, value in part.items()}
            if isinstance(part, str) and part.startswith("{") and part.endswith("}"):
                return getattr(ann, part[1:-1])
            return part

        path = self.path
        for name in ("thread", "question", "answer", "element", "feedback", "session"):
            path = path.replace(f"{{{name}}}", getattr(ann, name))
        return self.route[0], path, filled(self.body)


def thumb(step: str) -> dict[str, Any]:
    return {"feedback": {"forId": step, "value": 0, "comment": TAKEN, "threadId": "{thread}"}, "sessionId": "{session}"}


def act(name: str, **payload: str) -> dict[str, Any]:
    return {"action": {"name": name, "payload": payload, "id": "{element}"}, "sessionId": "{session}"}


# Nobody's.
UNKNOWN: Final = "00000000-0000-7000-8000-000000000000"
THREADS: Final = ("POST", "/project/threads")
ATTEMPTS: Final = [
    Attempt(("GET", "/project/thread/{thread_id}"), "/project/thread/{thread}", stranger=401),
    Attempt(("GET", "/project/thread/{thread_id}"), f"/project/thread/{UNKNOWN}"),
    Attempt(("GET", "/project/thread/{thread_id}"), "/project/thread/%25", stranger=404),
    Attempt(
        ("GET", "/project/thread/{thread_id}/element/{element_id}"),
        "/project/thread/{thread}/element/{element}",
        stranger=401,
    ),
    Attempt(
        ("GET", "/project/thread/{thread_id}/element/{element_id}"), f"/project/thread/{UNKNOWN}/element/{{element}}"
    ),
    Attempt(("PUT", "/project/thread"), "/project/thread", {"threadId": "{thread}", "name": TAKEN}, stranger=401),
    Attempt(("DELETE", "/project/thread"), "/project/thread", {"threadId": "{thread}"}, stranger=401),
    Attempt(("PUT", "/feedback"), "/feedback", thumb("{answer}")),
    Attempt(("PUT", "/feedback"), "/feedback", thumb("{question}")),
    Attempt(("PUT", "/feedback"), "/feedback", thumb("no-such-step")),
    Attempt(("DELETE", "/feedback"), "/feedback", {"feedbackId": "{feedback}"}),
    Attempt(("DELETE", "/feedback"), "/feedback", {"feedbackId": "no-such-thumb"}),
    Attempt(("POST", "/project/action"), "/project/action", act("retry", message_id="{answer}")),
    Attempt(("POST", "/project/action"), "/project/action", act("no-such-action")),
    Attempt(THREADS, "/project/threads", {"pagination": {"first": 50}, "filter": {}}, stranger=200),
    Attempt(
        THREADS, "/project/threads", {"pagination": {"first": 50, "cursor": "{cursor}"}, "filter": {}}, stranger=200
    ),
    Attempt(THREADS, "/project/threads", {"pagination": {"first": 50, "cursor": "?"}, "filter": {}}, stranger=400),
    Attempt(THREADS, "/project/threads", {"pagination": {"first": 50}, "filter": {"search": SECRET}}, stranger=200),
    Attempt(THREADS, "/project/threads", {"pagination": {"first": 50}, "filter": {"feedback": 1}}, stranger=200),
    Attempt(("GET", "/user"), "/user", stranger=200),
    Attempt(("GET", "/project/settings"), "/project/settings", stranger=200),
]
CUSTOM: Final = {
    "type": "custom",
    "id": "{element}",
    "threadId": "{thread}",
    "name": "ReplyStatus",
    "display": "inline",
}
# CVE-2026-22218 reads a file of the server's by its path, CVE-2026-22219 has the server fetch an address.
FILE: Final = {"type": "file", "id": "{element}", "name": "f", "display": "inline", "path": "/etc/passwd"}
FETCH: Final = {"type": "image", "id": "{element}", "name": "f", "display": "inline", "url": "http://127.0.0.1:1/"}
# CVE-2026-45018 starts a program, CVE-2026-45019 has the server fetch an address.
PROGRAM: Final = {"sessionId": "{session}", "clientType": "stdio", "name": "x", "fullCommand": "touch /tmp/eve"}
ADDRESS: Final = {"sessionId": "{session}", "clientType": "sse", "name": "x", "url": "http://127.0.0.1:1/"}


def shut(method: str, route: str, path: str, body: Any = None) -> Attempt:
    return Attempt((method, route), path, body, 404, 404)


ATTEMPTS += [
    shut("PUT", "/project/element", "/project/element", {"element": CUSTOM, "sessionId": "{session}"}),
    shut(
        "PUT", "/project/element", "/project/element", {"element": CUSTOM | {"path": "/etc/passwd"}, "sessionId": "x"}
    ),
    shut("PUT", "/project/element", "/project/element", {"element": FILE, "sessionId": "{session}"}),
    shut("PUT", "/project/element", "/project/element", {"element": FETCH, "sessionId": "{session}"}),
    shut("DELETE", "/project/element", "/project/element", {"element": CUSTOM, "sessionId": "{session}"}),
    shut("DELETE", "/project/element", "/project/element", {"element": FILE, "sessionId": "{session}"}),
    shut("POST", "/project/file", "/project/file?session_id={session}"),
    shut("POST", "/project/file", "/project/file/?session_id={session}"),
    shut("GET", "/project/file/{file_id}", "/project/file/{element}?session_id={session}"),
    shut("GET", "/project/file/{file_id}", "/project/file/..%2f..%2fsecret.key?session_id={session}"),
    shut("GET", "/project/share/{thread_id}", "/project/share/{thread}"),
    shut("PUT", "/project/thread/share", "/project/thread/share", {"threadId": "{thread}", "isShared": True}),
    shut("POST", "/mcp", "/mcp", PROGRAM),
    shut("POST", "/mcp", "/mcp", ADDRESS),
    shut("DELETE", "/mcp", "/mcp", {"sessionId": "{session}", "name": "x"}),
    shut("POST", "/auth/jwt", "/auth/jwt"),
    shut("GET", "/copilot/{filename:path}", "/copilot/index.js"),
    shut("GET", "/docs/oauth2-redirect", "/docs/oauth2-redirect"),
]


def routes_of(routes: list[BaseRoute]) -> set[tuple[str, str]]:
    """Method and path of each; of one that takes GET the HEAD goes without saying."""
    found: set[tuple[str, str]] = set()
    for route in routes:
        methods = set(getattr(route, "methods", None) or ())
        found |= {
            (method, getattr(route, "path", "")) for method in methods - ({"HEAD"} if "GET" in methods else set())
        }
    return found


def test_every_route_of_chainlit_is_known_here() -> None:
    found = routes_of(router.routes) | routes_of(chainlit_app.routes)
    assert found == COMMON | IDENTITY | OWN | SHUT | OURS
    mounts = [route.path for route in chainlit_app.routes if route.__class__.__name__ == "Mount"]
    assert mounts == ["/ws/socket.io"]


def test_every_event_of_chainlits_socket_is_known_here() -> None:
    assert {(space, event) for space, known in sio.handlers.items() for event in known} == {("/", e) for e in EVENTS}


def test_every_route_that_takes_an_id_or_is_closed_is_tried() -> None:
    tried = {attempt.route for attempt in ATTEMPTS}
    assert tried >= OWN | SHUT


def test_each_closed_path_is_one_of_chainlits_and_none_is_one_that_the_page_needs() -> None:
    paths = [path for _, path in SHUT]
    assert all(any(path == closed or path.startswith(f"{closed}/") for path in paths) for closed in CLOSED)
    assert not any(is_closed(path) for _, path in COMMON | IDENTITY | OWN | OURS)


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: f"{attempt.route[0]} {attempt.path}")
def test_a_stranger_gets_and_changes_nothing(ann: Ann, eve: Visitor, nobody: Visitor, attempt: Attempt) -> None:
    for visitor, expected in ((eve, attempt.stranger), (nobody, attempt.nobody)):
        answer = visitor.call(*attempt.of(ann))
        assert answer.status_code == expected
        assert SECRET not in answer.text
    assert ann.unchanged()


def test_what_ann_does_herself_still_works(ann: Ann) -> None:
    """Or the test above would prove nothing."""
    with Visitor(ann.visitor.url) as visitor, Tab(visitor) as tab:
        tab.ask("one")
        thread = threads_of(visitor)[0]["id"]
        answer = visitor.thread(thread)["steps"][1]["id"]
        thumb = {"feedback": {"forId": answer, "value": 0, "comment": "why"}, "sessionId": tab.session_id}
        given = visitor.call("PUT", "/feedback", thumb)
        assert given.status_code == 200
        assert visitor.thread(thread)["steps"][1]["feedback"]["comment"] == "why"
        assert visitor.call("DELETE", "/feedback", {"feedbackId": given.json()["feedbackId"]}).status_code == 200
        assert visitor.thread(thread)["steps"][1]["feedback"] is None
        retry = {"action": {"name": "retry", "payload": {"message_id": answer}}, "sessionId": tab.session_id}
        assert visitor.call("POST", "/project/action", retry).status_code == 200
        tab.wait_until_answered()
        assert visitor.call("PUT", "/project/thread", {"threadId": thread, "name": "new"}).status_code == 200
        assert threads_of(visitor)[0]["name"] == "new"
        element = visitor.thread(thread)["elements"][-1]["id"]
        assert visitor.call("GET", f"/project/thread/{thread}/element/{element}").json()["id"] == element
        assert visitor.call("DELETE", "/project/thread", {"threadId": thread}).status_code == 200
        assert threads_of(visitor) == []


def test_an_upload_is_refused_before_it_is_read(ann: Ann, eve: Visitor) -> None:
    answer = eve.http.post(f"/project/file?session_id={ann.session}", files={"file": ("f", TAKEN, "text/plain")})
    assert answer.status_code == 404
    assert ann.unchanged()


def test_nobody_becomes_ann_with_a_token_that_we_have_not_signed(ann: Ann, nobody: Visitor) -> None:
    claims = {"identifier": ann.whole["userIdentifier"], "metadata": {}, "exp": time.time() + 3600}
    for token in (jwt.encode(claims, "", algorithm="none"), jwt.encode(claims, "x" * 32, algorithm="HS256"), "x"):
        for headers in ({"Cookie": f"access_token={token}"}, {"Authorization": f"Bearer {token}"}):
            assert nobody.http.get("/user", headers=headers).status_code == 401
            assert nobody.http.get(f"/project/thread/{ann.thread}", headers=headers).status_code == 401


def test_anns_name_is_not_her_cookie(ann: Ann, nobody: Visitor, login: str) -> None:
    if login == "password":
        pytest.skip("the cookie opens nothing where people sign in")
    name = ann.whole["userIdentifier"]
    nobody.http.cookies.set("visitor", name)
    nobody.http.post("/auth/header").raise_for_status()
    assert nobody.http.get("/user").json()["identifier"] != name
    assert threads_of(nobody) == []


@pytest.mark.parametrize("path", ["/auth/oauth/github", "/auth/oauth/github/callback?code=x&state=y"])
def test_nobody_comes_in_by_a_provider_that_is_not_set_up(nobody: Visitor, path: str) -> None:
    assert nobody.call("GET", path).status_code == 400
    assert nobody.call("POST", "/auth/oauth/azure-ad-hybrid/callback").status_code == 400
    assert "access_token" not in nobody.http.cookies


@pytest.mark.parametrize("session", ["x\r\nSet-Cookie: a=b", "../data", "", 1, None, {}])
def test_the_cookie_of_a_session_takes_an_id_only(nobody: Visitor, session: Any) -> None:
    assert nobody.call("POST", "/set-session-cookie", {"session_id": session}).status_code == 422


def test_the_cookie_of_a_session_opens_nothing(ann: Ann, eve: Visitor) -> None:
    answer = eve.call("POST", "/set-session-cookie", {"session_id": ann.session})
    assert answer.status_code == 200
    assert eve.call("GET", f"/project/thread/{ann.thread}").status_code == 401
    assert Tab(eve, session_id=ann.session).accepted is False


@pytest.mark.parametrize(
    "folder", ["public", "assets", "avatars", "copilot", "project/translations", "logo", "favicon"]
)
@pytest.mark.parametrize(
    "way",
    [
        "../" * 9 + "etc/passwd",
        quote("../" * 9 + "etc/passwd", safe=""),
        "%2e%2e/" * 9 + "etc/passwd",
        "..%5c..%5cpyproject.toml",
        "../pyproject.toml",
        quote(str(ROOT / "pyproject.toml"), safe=""),
        "/etc/passwd",
        "%00",
        "x" * 300,
    ],
)
def test_no_path_leads_out_of_the_public_folders(nobody: Visitor, folder: str, way: str) -> None:
    answer = nobody.call("GET", f"/{folder}/{way}")
    assert answer.status_code < 500
    assert "root:" not in answer.text
    assert "[project]" not in answer.text


@pytest.mark.parametrize("query", ["language=../../secret", "language=en-US%00", "language=" + "x" * 999])
def test_a_language_is_no_path(nobody: Visitor, query: str) -> None:
    assert nobody.call("GET", f"/project/translations?{query}").status_code == 422


def test_a_socket_is_for_visitors_with_a_cookie(nobody: Visitor) -> None:
    assert Tab(nobody).accepted is False


def test_the_thread_of_another_is_not_taken_over(ann: Ann, eve: Visitor, nobody: Visitor) -> None:
    """CVE-2025-68492."""
    for visitor in (eve, nobody):
        tab = Tab(visitor, thread_id=ann.thread)
        assert tab.accepted is False
        assert SECRET not in tab.listen(0.2)
    assert ann.unchanged()


def test_the_session_of_another_is_not_taken_over(ann: Ann, eve: Visitor, nobody: Visitor) -> None:
    """CVE-2026-56104."""
    for visitor in (eve, nobody):
        for thread in ("", ann.thread):
            tab = Tab(visitor, session_id=ann.session, thread_id=thread)
            assert tab.accepted is False
            assert SECRET not in tab.listen(0.2)
    assert ann.unchanged()
    ann.tab.send("chat_settings_change", {})  # hers still works
    ann.tab.wait_for("chat_settings")


def test_a_message_with_the_id_of_anothers_stays_with_its_sender(ann: Ann, eve: Visitor) -> None:
    """CVE-2025-68492, from within a session of one's own."""
    with Tab(eve) as tab:
        for step in (ann.question, ann.answer):
            tab.ask(TAKEN, step_id=step, threadId=ann.thread, parentId=ann.question, metadata={"tokens": {"m": 1}})
            tab.send("edit_message", question(f"{TAKEN} again", step))
            tab.wait_until_answered()
        assert ann.unchanged()
        assert SECRET not in tab.listen(0.2)
    assert SECRET not in json.dumps(threads_of(eve))
    assert ann.unchanged()


def test_no_event_reaches_into_anothers_conversation(ann: Ann, eve: Visitor) -> None:
    heard = len(ann.tab.told)
    with Tab(eve) as tab:
        for step in (ann.question, ann.answer):
            message = question(TAKEN, step, threadId=ann.thread, metadata={"favorite": True})
            for event in ("edit_message", "message_favorite", "window_message"):
                tab.send(event, message)
        for event in ("fetch_favorites", "audio_start", "audio_end", "stop", "connection_successful"):
            tab.send(event)
            tab.send(event, ann.session)
        tab.send("audio_chunk", {"isStart": True, "mimeType": "x", "elapsedTime": 0, "data": "x"})
        for event in ("chat_settings_change", "chat_settings_edit"):
            tab.send(event, {"session": ann.session, "thread_id": ann.thread, "model": TAKEN})
        tab.ask("mine")
        assert SECRET not in tab.listen(0.3)
    assert ann.unchanged()
    assert TAKEN not in ann.tab.listen(0.2)
    assert not any(name in packet for packet in ann.tab.told[heard:] for name in ("new_message", "task_start"))


def test_what_is_said_behind_a_strangers_link_has_an_id_that_the_stranger_does_not_know(ann: Ann, eve: Visitor) -> None:
    """Ann has followed a link of Eve's to a conversation that was not there yet."""
    thread, known = new_id(), {one["id"] for one in threads_of(ann.visitor)}
    eves, anns = Tab(eve, thread_id=thread), Tab(ann.visitor, thread_id=thread)
    assert eves.accepted
    assert anns.accepted
    anns.ask(SECRET)
    (own,) = {one["id"] for one in threads_of(ann.visitor)} - known
    assert own != thread
    before = ann.visitor.thread(own)
    eves.send("connection_successful")
    eves.send("chat_settings_change", {"system_prompt": TAKEN})
    eves.ask(TAKEN)
    assert SECRET not in eves.listen(0.2)
    eves.leave()
    time.sleep(0.3)
    assert ann.visitor.thread(own) == before
    assert ann.visitor.call("GET", f"/project/thread/{thread}").status_code == 404
    assert Tab(eve, thread_id=own).accepted is False
    anns.leave()
    with Tab(ann.visitor, session_id=anns.session_id) as again:  # the broken connection does not ask for it again
        again.ask("and on")
    assert len(ann.visitor.thread(own)["steps"]) == 4
    ann.visitor.call("DELETE", "/project/thread", {"threadId": own}).raise_for_status()


def test_a_reply_is_not_handed_to_the_stranger_who_has_the_thread_of_a_link(site: Program, eve: Visitor) -> None:
    """Bob has followed a link of Eve's, Eve writes there first, and Bob's connection breaks in mid-reply."""
    thread = new_id()
    with Visitor(site.url) as bob:
        eves, bobs = Tab(eve, thread_id=thread), Tab(bob, thread_id=thread)
        eves.ask("mine now")
        bobs.send("chat_settings_change", {"system_prompt": SECRET})
        bobs.ask(SECRET)
        bobs.send("client_message", question("!words 20000", new_id()))
        bobs.wait_for("stream_start")
        bobs.leave()
        for where in {thread} | {one["id"] for one in threads_of(eve)}:
            with Tab(eve, thread_id=where) as taken:
                told = taken.listen(0.5)
                assert SECRET not in told
                assert "task_start" not in told
                taken.send("stop")
                taken.ask("what was said?")
                assert SECRET not in taken.listen(0.2)
        eves.leave()


def test_a_deleted_conversation_is_nobodys(ann: Ann, eve: Visitor) -> None:
    known = {one["id"] for one in threads_of(ann.visitor)}
    with Tab(ann.visitor) as tab:
        tab.ask(SECRET)
    (thread,) = {one["id"] for one in threads_of(ann.visitor)} - known
    ann.visitor.call("DELETE", "/project/thread", {"threadId": thread}).raise_for_status()
    with Tab(eve, thread_id=thread) as tab:
        tab.ask(TAKEN)
        assert SECRET not in tab.listen(0.2)
    assert eve.call("GET", f"/project/thread/{thread}").status_code == 404


def test_the_session_of_a_page_that_is_closed_holds_nothing_for_the_next(ann: Ann, eve: Visitor) -> None:
    with Tab(ann.visitor) as tab:
        asked = tab.ask(f"{SECRET} once more")
        thread = json.loads(next(p for p in tab.told if "first_interaction" in p)[2:])[1]["thread_id"]
        tab.leave(for_good=True)
    time.sleep(0.3)
    with Tab(eve, session_id=tab.session_id) as taken:
        assert taken.accepted  # that session is no more, so this is a new one of that name
        taken.send("message_favorite", question(TAKEN, asked, metadata={"favorite": True}))
        taken.send("edit_message", question(TAKEN, asked))
        taken.ask("what did I say?")
        assert SECRET not in taken.listen(0.3)
    ann.visitor.call("DELETE", "/project/thread", {"threadId": thread}).raise_for_status()


@pytest.mark.parametrize("auth", [None, [], "x", {}, {"sessionId": None}, {"sessionId": {}}, {"sessionId": "x"}])
def test_a_socket_that_says_nonsense_is_refused(eve: Visitor, auth: Any) -> None:
    answer = eve.http.get("/ws/socket.io/?EIO=4&transport=polling")
    way = f"/ws/socket.io/?EIO=4&transport=polling&sid={json.loads(answer.text[1:])['sid']}"
    eve.http.post(way, content="40" + json.dumps(auth))
    assert eve.http.get(way).text.startswith("44")


@pytest.mark.parametrize("relative", [False, True])
def test_the_id_of_a_session_is_no_folder(eve: Visitor, tmp_path: Path, relative: bool) -> None:
    """Chainlit deletes the folder of that name with the session. Were it so here, it is a folder of this test alone."""
    (tmp_path / "kept").write_text("kept")
    tab = Tab(eve, session_id=os.path.relpath(tmp_path, ROOT / ".files") if relative else str(tmp_path))
    tab.leave(for_good=True)
    time.sleep(0.2)
    assert (tmp_path / "kept").exists()
    assert tab.accepted is False


def test_the_id_of_a_connection_is_not_enough_to_go_on_with_it(ann: Ann, eve: Visitor, nobody: Visitor) -> None:
    """While a page polls, before it has a websocket or where a proxy lets none through."""
    where = "/ws/socket.io/?EIO=4&transport=polling"
    connection = json.loads(ann.visitor.http.get(where).text[1:])["sid"]
    way = f"{where}&sid={connection}"
    auth = {"sessionId": new_id(), "threadId": ann.thread, "clientType": "webapp", "userEnv": "{}"}
    ann.visitor.http.post(way, content="40" + json.dumps(auth)).raise_for_status()
    ann.visitor.http.post(way, content='42["connection_successful"]').raise_for_status()
    time.sleep(0.3)
    for stranger in (eve, nobody):
        for trick in (way, f"{way}&sid=x", f"{where}&sid={quote(connection)}", way.replace("socket.io/", "socket.io")):
            answer = stranger.http.get(trick)
            assert answer.status_code == 403
            assert SECRET not in answer.text
        assert stranger.http.post(way, content='42["stop"]').status_code == 403
        upgraded = Tab(stranger, query=f"&sid={connection}")
        assert upgraded.accepted is False
        assert SECRET not in "".join(upgraded.told)
    told = ""
    while SECRET not in told:
        told = ann.visitor.http.get(way).raise_for_status().text
    assert ann.unchanged()


def test_every_answer_says_who_may_frame_it(eve: Visitor) -> None:
    for path in ("/", "/public/custom.js", "/user", "/project/thread/x", "/health", "/api/x", "/mcp", "/ws/socket.io/"):
        headers = eve.http.get(path).headers
        assert headers["content-security-policy"] == "frame-ancestors 'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def test_in_the_end_anns_conversations_are_as_they_were(ann: Ann) -> None:
    assert ann.unchanged()
    assert {thread["name"] for thread in threads_of(ann.visitor)} == {f"Remember: {SECRET}", f"And again: {SECRET}"}
