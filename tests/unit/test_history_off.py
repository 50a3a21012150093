"""HISTORY=off: the chat works, and nothing of it is written anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Postgres, wait_for
from tests.site import Program, fake_ollama, server
from tests.tab import Tab, Visitor, new_id, question
from tests.unit.test_resume import ask_for_settings, last_request, panel, told


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with fake_ollama(tmp_path_factory.mktemp("ollama"), "--speedup", "20") as fake:
        yield fake


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(ollama: Program, folder: Path) -> Iterator[Program]:
    with server(folder, OLLAMA_HOST=ollama.url, HISTORY="off") as program:
        yield program


@pytest.fixture
def ann(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        yield visitor


def visit(visitor: Visitor) -> Tab:
    """A visit with all that one can do on a page."""
    tab = Tab(visitor)
    tab.wait_for("chat_settings")
    ask_for_settings(tab, {"temperature": 0.9, "system_prompt": "Be brief."})
    first = tab.ask("!echo one")
    tab.ask("!echo two")
    tab.send("edit_message", question("!echo other", first))
    tab.wait_until_answered()
    tab.send("client_message", question("!words 500", new_id()))
    tab.wait_for("stream_token")
    tab.send("stop")
    tab.wait_for("task_end")
    stopped = told(tab, "new_message")[-1]["id"]
    retry = {"action": {"name": "retry", "payload": {"message_id": stopped}}, "sessionId": tab.session_id}
    assert visitor.call("POST", "/project/action", retry).status_code == 200
    tab.wait_for("task_start")
    tab.wait_for("stream_token")
    tab.send("stop")
    tab.wait_for("task_end")
    return tab


def test_a_whole_visit_writes_nothing(ann: Visitor, ollama: Program, folder: Path, site: Program) -> None:
    with visit(ann) as tab:
        tab.ask("!echo end")
        asked = last_request(ollama)
        contents = [message["content"] for message in asked["messages"]]
        assert contents[:3] == ["Be brief.", "!echo other", "other"]
        assert contents[-1] == "!echo end"
        assert asked["options"]["temperature"] == 0.9
    assert not (folder / "data").exists()
    assert [path for path in folder.iterdir() if path.suffix != ".log"] == []
    assert "Traceback" not in site.text()


def test_what_needs_a_history_is_not_there(ann: Visitor) -> None:
    assert ann.http.get("/project/settings").json()["dataPersistence"] is False
    with Tab(ann) as tab:
        tab.ask("!echo one")
        thread = told(tab, "first_interaction")[-1]["thread_id"]
        thumb = {"feedback": {"forId": told(tab, "new_message")[-1]["id"], "value": 1}, "sessionId": tab.session_id}
        assert ann.call("PUT", "/feedback", thumb).status_code == 404
        listed = {"pagination": {"first": 50}, "filter": {}}
        assert ann.call("POST", "/project/threads", listed).status_code == 400
        assert ann.call("GET", f"/project/thread/{thread}").status_code == 400


def test_the_page_says_that_conversations_are_not_kept(ann: Visitor) -> None:
    with Tab(ann) as tab:
        [status] = tab.wait_for("window_message")
    assert status["details"][-1].startswith("Conversations are not kept here")


def test_a_reload_begins_anew_and_a_connection_that_broke_does_not(ann: Visitor, ollama: Program) -> None:
    with Tab(ann) as tab:
        ask_for_settings(tab, {"temperature": 0.9})
        tab.ask("!echo one")
        thread = told(tab, "first_interaction")[-1]["thread_id"]
        tab.leave()
        with Tab(ann, session_id=tab.session_id, thread_id=thread) as again:
            again.wait_for("new_message")
            again.ask("!echo two")
            assert len(last_request(ollama)["messages"]) == 3
    with Tab(ann, thread_id=thread) as page:
        page.wait_for("chat_settings")
        assert panel(page)["temperature"] == 0.2
        page.ask("!echo three")
        assert [message["content"] for message in last_request(ollama)["messages"]] == ["!echo three"]


def test_a_session_is_its_visitors_alone(ann: Visitor, site: Program) -> None:
    with Tab(ann) as tab:
        tab.ask("!echo secret")
        with Visitor(site.url) as eve, Visitor(site.url, known=False) as nobody:
            assert Tab(eve, session_id=tab.session_id).accepted is False
            assert Tab(nobody, session_id=tab.session_id).accepted is False
            assert Tab(nobody).accepted is False


def test_the_cookie_goes_with_the_browser(site: Program) -> None:
    with Visitor(site.url, known=False) as visitor:
        cookie = visitor.http.get("/").headers["set-cookie"]
    assert cookie.startswith("visitor=")
    assert "HttpOnly" in cookie
    assert "Max-Age" not in cookie


def test_the_health_probe_says_that_there_is_no_database(ann: Visitor) -> None:
    assert ann.http.get("/health").json()["database"]["state"] == "off"


def test_with_a_login_there_is_one(ollama: Program, tmp_path: Path) -> None:
    with server(tmp_path, OLLAMA_HOST=ollama.url, HISTORY="off", AUTH="password") as site:
        database = site.get("/health")["database"]
        assert (database["state"], database["waiting"], database["lost"]) == ("ok", 0, 0)


def test_a_data_folder_that_takes_no_writes_is_no_hindrance(ollama: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where the folder should be")
    data = str(tmp_path / "file" / "data")
    with (
        server(tmp_path, OLLAMA_HOST=ollama.url, HISTORY="off", DATA_DIR=data) as site,
        Visitor(site.url) as visitor,
        Tab(visitor) as tab,
    ):
        tab.ask("!echo one")
        assert told(tab, "new_message")[-1]["output"] == "one"


def test_a_database_that_is_set_stays_empty(ollama: Program, tmp_path: Path, postgres: Postgres) -> None:
    name = wait_for(postgres.new_database)
    with (
        server(tmp_path, OLLAMA_HOST=ollama.url, HISTORY="off", DATABASE_URL=postgres.url(name)) as site,
        Visitor(site.url) as visitor,
    ):
        visit(visitor).leave()
        assert "Traceback" not in site.text()
    assert wait_for(lambda: postgres.execute("SELECT * FROM pg_tables WHERE schemaname = 'public'", name)) == []
