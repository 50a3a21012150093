"""Personal links on a running server: the same conversations in another browser, and nobody else's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.postgres import database_of
from tests.site import Program, fake_ollama, server
from tests.tab import Tab, Visitor, new_id, question

SECRET = "the-cat-is-called-Bartholomew"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("links")
    variables = {"LOGIN_TRIES": "1000", "MAX_LINKS": "3", "MAX_DEVICES": "2"} | database_of(request)
    with (
        fake_ollama(folder, "--speedup", "20") as ollama,
        server(folder, OLLAMA_HOST=ollama.url, **variables) as program,
    ):
        yield program


@pytest.fixture
def ann(site: Program) -> Iterator[Visitor]:
    """Has a conversation."""
    with Visitor(site.url) as visitor:
        with Tab(visitor) as tab:
            tab.ask(SECRET)
        yield visitor


@pytest.fixture
def phone(site: Program) -> Iterator[Visitor]:
    """Another browser of hers."""
    with Visitor(site.url) as visitor:
        yield visitor


@pytest.fixture
def eve(site: Program) -> Iterator[Visitor]:
    with Visitor(site.url) as visitor:
        yield visitor


def link_of(visitor: Visitor) -> dict[str, str]:
    answer = visitor.http.post("/api/me/links")
    assert answer.status_code == 201
    link: dict[str, str] = answer.json()
    return link


def join(visitor: Visitor, code: Any) -> httpx.Response:
    return visitor.http.post("/api/me/join", json={"code": code})


def names_of(visitor: Visitor) -> list[str]:
    answer = visitor.call("POST", "/project/threads", {"pagination": {"first": 50}, "filter": {}})
    return [thread["name"] for thread in answer.raise_for_status().json()["data"]]


def thread_of(visitor: Visitor) -> str:
    answer = visitor.call("POST", "/project/threads", {"pagination": {"first": 1}, "filter": {}})
    return str(answer.json()["data"][0]["id"])


def test_a_link_opens_the_same_conversations_elsewhere(ann: Visitor, phone: Visitor) -> None:
    link = link_of(ann)
    assert len(link["code"]) == 43
    assert link["code"] not in json.dumps(ann.me())
    assert [made["id"] for made in ann.me()["links"]] == [link["id"]]
    assert join(phone, link["code"]).json() == {"waiting": 0}
    assert names_of(phone) == [SECRET]
    me = phone.me()
    assert (me["kind"], me["joined"], me["conversations"], me["waiting"]) == ("anonymous", True, 1, 0)
    assert [device["this"] for device in me["devices"]] == [True]
    assert (ann.me()["joined"], [device["this"] for device in ann.me()["devices"]]) == (False, [False])
    with Tab(phone, thread_id=thread_of(ann)) as tab:
        tab.ask("from the phone")
    assert len([s for s in ann.thread(thread_of(ann))["steps"] if s["type"] == "user_message"]) == 2


def test_a_browser_that_is_sent_away_has_its_own_conversations_and_no_others(ann: Visitor, phone: Visitor) -> None:
    with Tab(phone) as tab:
        tab.ask("the phone's own")
    join(phone, link_of(ann)["code"]).raise_for_status()
    thread, old = thread_of(ann), phone.cookies
    assert phone.http.get(f"/project/thread/{thread}").status_code == 200
    with Tab(phone, thread_id=thread) as tab:
        device = ann.me()["devices"][0]["id"]
        assert ann.http.delete(f"/api/me/devices/{device}").status_code == 204
        tab.wait_until_closed()
    headers = {"Cookie": old}
    for method, path in (("GET", f"/project/thread/{thread}"), ("GET", "/user")):
        assert httpx.request(method, phone.url + path, headers=headers, trust_env=False).status_code == 401
    assert Tab(phone, thread_id=thread).accepted is False
    phone.http.post("/auth/header").raise_for_status()
    assert names_of(phone) == ["the phone's own"]
    assert phone.http.get(f"/project/thread/{thread}").status_code == 401
    assert Tab(phone, thread_id=thread).accepted is False
    assert phone.me()["joined"] is False


def test_a_browser_that_was_removed_does_not_come_back_by_its_link(ann: Visitor, phone: Visitor) -> None:
    code = link_of(ann)["code"]
    join(phone, code).raise_for_status()
    assert ann.http.delete(f"/api/me/devices/{ann.me()['devices'][0]['id']}").status_code == 204
    phone.http.post("/auth/header").raise_for_status()
    answer = join(phone, code)
    assert (answer.status_code, answer.json()["code"]) == (404, "bad_code")
    assert (ann.me()["links"], names_of(phone)) == ([], [])


def test_a_browser_that_joined_has_no_say_over_links_and_other_browsers(
    ann: Visitor, phone: Visitor, eve: Visitor
) -> None:
    link = link_of(ann)
    for one in (phone, eve):
        join(one, link["code"]).raise_for_status()
    eves = next(device["id"] for device in eve.me()["devices"] if device["this"])
    for method, path in (
        ("POST", "/api/me/links"),
        ("DELETE", f"/api/me/links/{link['id']}"),
        ("DELETE", f"/api/me/devices/{eves}"),
    ):
        english = phone.http.request(method, path)
        russian = phone.http.request(method, path, headers={"Accept-Language": "ru"})
        assert (english.status_code, english.json()["code"]) == (403, "not_the_owner")
        assert english.json()["detail"].isascii()
        assert not russian.json()["detail"].isascii()
    assert ([made["id"] for made in ann.me()["links"]], len(ann.me()["devices"])) == ([link["id"]], 2)


def test_a_browser_leaves_by_itself(ann: Visitor, phone: Visitor) -> None:
    join(phone, link_of(ann)["code"]).raise_for_status()
    device = phone.me()["devices"][0]["id"]
    assert phone.http.delete(f"/api/me/devices/{device}").status_code == 204
    assert phone.http.get("/user").status_code == 200  # as itself again
    assert (names_of(phone), phone.me()["joined"], ann.me()["devices"]) == ([], False, [])
    assert len(ann.me()["links"]) == 1


def test_a_revoked_link_opens_nothing_and_who_took_it_stays(ann: Visitor, phone: Visitor, eve: Visitor) -> None:
    link = link_of(ann)
    join(phone, link["code"]).raise_for_status()
    assert eve.http.delete(f"/api/me/links/{link['id']}").status_code == 404
    assert ann.http.delete(f"/api/me/links/{link['id']}").status_code == 204
    assert ann.http.delete(f"/api/me/links/{link['id']}").status_code == 404
    answer = join(eve, link["code"])
    assert (answer.status_code, answer.json()["code"]) == (404, "bad_code")
    assert names_of(eve) == []
    assert names_of(phone) == [SECRET]


@pytest.mark.parametrize("code", ["", "x", "x" * 43, "x" * 10_000, "\0" * 43, "é" * 43])
def test_a_guess_opens_nothing(ann: Visitor, eve: Visitor, code: str) -> None:
    link_of(ann)
    answer = join(eve, code)
    assert (answer.status_code, answer.json()["code"]) == (404, "bad_code")
    assert eve.me()["joined"] is False


@pytest.mark.parametrize("body", [None, [], {}, {"code": None}, {"code": 1}, {"code": {}}])
def test_what_is_no_code_is_told_so(eve: Visitor, body: Any) -> None:
    answer = eve.http.post("/api/me/join", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_request")


def test_the_ids_of_a_link_and_of_a_browser_are_of_no_use_to_others(ann: Visitor, phone: Visitor, eve: Visitor) -> None:
    link = link_of(ann)
    join(phone, link["code"]).raise_for_status()
    device = ann.me()["devices"][0]["id"]
    assert join(eve, link["id"]).status_code == 404
    assert eve.http.delete(f"/api/me/links/{link['id']}").status_code == 404
    assert eve.http.delete(f"/api/me/devices/{device}").status_code == 404
    assert len(ann.me()["links"]) == len(ann.me()["devices"]) == 1


def test_ones_own_link_and_too_many_are_told(site: Program, ann: Visitor, phone: Visitor) -> None:
    code = link_of(ann)["code"]
    answer = ann.http.post("/api/me/join", json={"code": code}, headers={"Accept-Language": "ru"})
    assert (answer.status_code, answer.json()["code"]) == (409, "own_link")
    assert answer.json()["detail"] == "В этом браузере эти беседы уже есть."
    link_of(ann)
    link_of(ann)
    answer = ann.http.post("/api/me/links")
    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_links")
    assert "3" in answer.json()["detail"]
    join(phone, code).raise_for_status()
    with Visitor(site.url) as second, Visitor(site.url) as third:
        join(second, code).raise_for_status()
        assert (join(third, code).status_code, join(third, code).json()["code"]) == (409, "too_many_devices")


def test_the_browsers_own_conversations_come_along_if_that_is_wanted(ann: Visitor, phone: Visitor) -> None:
    with Tab(phone) as tab:
        tab.ask("the phone's own")
    assert phone.http.post("/api/me/adopt", json={"take": True}).json() == {"moved": 0}
    assert join(phone, link_of(ann)["code"]).json() == {"waiting": 1}
    assert phone.me()["waiting"] == 1
    assert phone.http.post("/api/me/adopt", json={"take": True}).json() == {"moved": 1}
    assert (phone.me()["waiting"], sorted(names_of(ann))) == (0, sorted([SECRET, "the phone's own"]))


def test_who_does_not_want_that_is_not_asked_again(ann: Visitor, phone: Visitor) -> None:
    with Tab(phone) as tab:
        tab.ask("the phone's own")
    join(phone, link_of(ann)["code"]).raise_for_status()
    assert phone.http.post("/api/me/adopt", json={"take": False}).json() == {"moved": 0}
    assert phone.me()["waiting"] == 0
    assert names_of(ann) == [SECRET]
    phone.http.delete(f"/api/me/devices/{phone.me()['devices'][0]['id']}").raise_for_status()
    assert names_of(phone) == ["the phone's own"]


def test_a_reply_that_is_being_written_comes_along(site: Program, ann: Visitor, phone: Visitor) -> None:
    tab = Tab(phone)
    tab.ask("the phone's own")
    tab.send("client_message", question("!words 60", new_id()))
    tab.wait_for("task_start")
    join(phone, link_of(ann)["code"]).raise_for_status()
    tab.wait_until_closed()
    assert phone.http.post("/api/me/adopt", json={"take": True}).json() == {"moved": 1}
    thread = thread_of(phone)
    deadline = time.monotonic() + 30
    while len(ann.thread(thread)["steps"]) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ann.thread(thread)["steps"][3]["output"]
    assert "not kept" not in site.text()


def test_a_token_is_worth_nothing_without_its_browsers_cookie(ann: Visitor) -> None:
    token = ann.http.cookies["access_token"]
    for headers in ({"Cookie": f"access_token={token}"}, {"Authorization": f"Bearer {token}"}):
        assert httpx.get(f"{ann.url}/user", headers=headers, trust_env=False).status_code == 401
        answer = httpx.get(f"{ann.url}/project/thread/{thread_of(ann)}", headers=headers, trust_env=False)
        assert answer.status_code == 401


def test_without_a_login_there_is_nobody_to_sign_in_or_out(ann: Visitor) -> None:
    for path, body in (
        ("/api/auth/register", {"name": "Ann", "password": SECRET}),
        ("/api/auth/password", {"old_password": SECRET, "new_password": SECRET}),
        ("/api/auth/logout-everywhere", None),
    ):
        answer = ann.http.post(path, json=body)
        assert (answer.status_code, answer.json()["code"][:3]) == (403, "no_")
    assert ann.http.post("/api/auth/login", data={"username": "a", "password": "b"}).status_code == 403
    assert ann.http.post("/login", data={"username": "a", "password": "b"}).status_code == 400


def test_another_sites_page_changes_nothing(ann: Visitor) -> None:
    headers = {"Sec-Fetch-Site": "same-site"}
    for method, path in (("POST", "/api/me/links"), ("POST", "/api/me/join"), ("POST", "/logout")):
        assert ann.http.request(method, path, headers=headers).status_code == 403
    assert ann.me()["links"] == []


def test_the_log_has_no_code_and_no_cookie(site: Program, ann: Visitor, phone: Visitor) -> None:
    code = link_of(ann)["code"]
    join(phone, code).raise_for_status()
    for hidden in (
        code,
        ann.http.cookies["visitor"],
        phone.http.cookies["visitor"],
        phone.http.cookies["access_token"],
    ):
        assert hidden not in site.text()
