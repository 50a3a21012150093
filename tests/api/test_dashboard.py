"""Who may look at the dashboard, and that others learn nothing from it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.api.dashboard import PLOTLY
from app.machine import in_a_container
from app.settings import ROOT
from tests.api.conftest import Site
from tests.site import Program, clean_environment, fake_ollama, server
from tests.tab import PASSWORD, Visitor

PAGE = "/dashboard"
DATA = "/api/dashboard"
KEY = "0123456789abcdef0123456789abcdef"


def get(url: str, path: str, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(url + path, headers=sent, trust_env=False)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server with a login, keys for programs, and an administrator, Ann."""
    folder = tmp_path_factory.mktemp("dashboard")
    ways = {"AUTH": "password", "SIGNUP": "on", "API_KEYS": f"worker:{KEY}", "LOGIN_TRIES": "1000"}
    with fake_ollama(folder, "--speedup", "1000") as ollama, server(folder, OLLAMA_HOST=ollama.url, **ways) as site:
        command = [sys.executable, "-m", "app.users", "add", "Ann", "--admin", "--password-stdin"]
        environment = clean_environment(DATA_DIR=str(folder / "data"), AUTH="password")
        subprocess.run(command, input=PASSWORD.encode(), env=environment, check=True, cwd=folder)
        yield site


@pytest.fixture
def ann(locked: Program) -> Iterator[Visitor]:
    with Visitor(locked.url, known=False) as visitor:
        assert visitor.sign_in("ann").status_code == 200
        yield visitor


def test_without_a_login_this_machine_looks(site: Site) -> None:
    assert site.chat("hello").status_code == 200
    page, data = get(site.program.url, PAGE), get(site.program.url, DATA)
    assert page.status_code == 200
    assert "dashboard.js" in page.text
    assert data.json()["period"] == "day"
    assert data.json()["replies"]["source"] == "log"
    assert data.json()["now"]["engines"][0]["name"] == "ollama"
    assert data.json()["now"]["memory"]["program"] > 50e6
    for answer in (page, data):
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Forwarded_For": "203.0.113.9"},
        {"X_Forwarded_For": "127.0.0.1, 192.168.1.7"},
        {"X_Real_IP": "192.168.1.7"},
        {"Forwarded": "for=203.0.113.9"},
        {"Host": "chat.example.org"},
    ],
    ids=str,
)
def test_without_a_login_nobody_looks_through_a_proxy_or_another_name(site: Site, headers: dict[str, str]) -> None:
    page, data = get(site.program.url, PAGE, **headers), get(site.program.url, DATA, **headers)
    assert (page.status_code, data.status_code) == (403, 403)
    assert "AUTH=password" in page.text
    assert "dashboard.js" not in page.text
    assert data.json()["code"] == ("in_a_container" if in_a_container() else "for_this_machine")
    assert data.json().keys() == {"detail", "code"}


def test_a_stranger_is_told_in_his_language_what_to_do(locked: Program) -> None:
    english, russian = get(locked.url, PAGE), get(locked.url, PAGE, Accept_Language="ru-RU,ru;q=0.9")
    assert (english.status_code, russian.status_code) == (403, 403)
    assert "is for administrators" in english.text
    assert "Войти" in russian.text
    assert 'lang="ru"' in russian.text
    for answer in (english, russian):
        assert 'href="/login"' in answer.text
        assert "script" not in answer.text.partition("</head>")[0]
    assert "администраторам" in get(locked.url, DATA, Accept_Language="ru").json()["detail"]


def test_an_administrator_looks_by_cookie_and_by_token(locked: Program, ann: Visitor) -> None:
    assert ann.http.get(PAGE).status_code == 200
    assert ann.http.get(DATA, params={"period": "week"}).json()["period"] == "week"
    given = httpx.post(
        f"{locked.url}/api/auth/login", data={"username": "ann", "password": PASSWORD}, trust_env=False
    ).json()
    token = f"Bearer {given['access_token']}"
    assert get(locked.url, DATA, Authorization=token).status_code == 200
    # Who has signed in may look from anywhere.
    assert get(locked.url, DATA, Authorization=token, X_Forwarded_For="203.0.113.9").status_code == 200


def test_nobody_else_does(locked: Program) -> None:
    with Visitor(locked.url) as bob:
        assert bob.me()["role"] == "user"
        assert bob.http.get(PAGE).status_code == 403
        assert bob.http.get(DATA).json()["code"] == "for_administrators"
    key = {"Authorization": f"Bearer {KEY}"}
    assert get(locked.url, "/v1/models", **key).status_code == 200
    assert get(locked.url, DATA, **key).status_code == 403
    assert get(locked.url, DATA, X_API_Key=KEY).status_code == 403
    assert get(locked.url, DATA, Authorization="Bearer nonsense").status_code == 403


def test_a_session_that_has_ended_looks_no_more(ann: Visitor) -> None:
    before = ann.cookies
    assert ann.http.get(DATA).status_code == 200
    ann.http.post("/api/auth/logout-everywhere").raise_for_status()
    answer = httpx.get(str(ann.http.base_url.join(DATA)), headers={"Cookie": before}, trust_env=False)
    assert answer.status_code == 403


def test_no_other_path_leads_there(locked: Program) -> None:
    for path in ("/dashboard/", "/api/dashboard/", "/api//dashboard", "/DASHBOARD", "/api/dashboard/day"):
        answer = get(locked.url, path)
        assert "replies" not in answer.text or answer.headers["content-type"].startswith("text/html")
        assert "dashboard.js" not in answer.text


def test_a_period_is_one_of_two(site: Site) -> None:
    assert get(site.program.url, f"{DATA}?period=year").status_code == 422


def test_the_page_loads_from_this_server_alone_and_runs_nothing_that_stands_in_it(site: Site) -> None:
    answer = get(site.program.url, PAGE)
    policy = answer.headers.get_list("content-security-policy")
    assert "script-src 'self';" in policy[0]
    assert "unsafe" not in policy[0]
    assert "http" not in policy[0]
    assert any(rule.startswith("frame-ancestors") for rule in policy)
    assert "<script>" not in answer.text
    assert "style=" not in answer.text


def test_the_library_is_packed_and_kept(site: Site) -> None:
    url = f"{site.program.url}/public/vendor/{PLOTLY}"
    whole = (ROOT / "public" / "vendor" / PLOTLY).read_bytes()
    with httpx.stream("GET", url, headers={"Accept-Encoding": "gzip"}, trust_env=False) as answer:
        raw = b"".join(answer.iter_raw())
    assert len(raw) < 450_000
    assert gzip.decompress(raw) == whole
    assert "immutable" in answer.headers["cache-control"]
    assert httpx.get(url, headers={"Accept-Encoding": "identity"}, trust_env=False).content == whole


def test_it_is_in_no_list_of_the_api(site: Site) -> None:
    paths = get(site.program.url, "/openapi.json").json()["paths"]
    assert not any("dashboard" in path for path in paths)


def test_with_nothing_kept_it_shows_what_is_in_memory(tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--speedup", "1000") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, HISTORY="off") as site,
    ):
        before = get(site.url, DATA).json()
        assert (before["replies"]["source"], before["now"]["database"]) == ("no_log", "off")
        assert not os.path.exists(tmp_path / "data" / "chat.db")
