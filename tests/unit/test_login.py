"""Signing in to a running server: what it opens, and that nothing stays open when it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from app.paths import wants_token
from tests.fakes.provider import Provider, provider
from tests.postgres import Postgres, database_of, wait_for
from tests.site import Program, clean_environment, fake_ollama, free_port, hurried, server
from tests.tab import PASSWORD, Tab, Visitor, new_id, question

OTHER = "blue horse staple 88"
KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("login")


@pytest.fixture(scope="module")
def ollama(folder: Path) -> Iterator[Program]:
    with fake_ollama(folder, "--speedup", "20") as program:
        yield program


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, ollama: Program) -> dict[str, str]:
    """Of a server where people sign in, with each kind of database."""
    variables = {"OLLAMA_HOST": ollama.url, "AUTH": "password", "SIGNUP": "on", "LOGIN_TRIES": "100", "SECRET_KEY": KEY}
    return variables | database_of(request)


@pytest.fixture(scope="module")
def site(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("site")
    # What the command line has changed is noticed at the next look, 20 s later at most.
    soon = hurried(folder, "app.page.open_pages", "module._PAUSE = 1.0")
    with server(folder, **environment, **soon) as program:
        yield program


@pytest.fixture
def ann(site: Program) -> Iterator[Visitor]:
    """Signed in, by an account of her own in each test."""
    with Visitor(site.url) as visitor:
        yield visitor


def name_of(visitor: Visitor) -> str:
    return str(visitor.me()["name"])


def token_of(visitor: Visitor) -> str:
    return str(visitor.http.cookies["access_token"])


def manage(
    site: Program, environment: dict[str, str], *words: str, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command line of accounts, beside the running server."""
    variables = clean_environment(**environment | {"DATA_DIR": str(site.log.parent / "data")})
    command = [sys.executable, "-m", "app.users", *words]
    return subprocess.run(command, env=variables, cwd=site.log.parent, input=typed, capture_output=True, text=True)


def wait_until_nobody(visitor: Visitor) -> None:
    deadline = time.monotonic() + 20
    while visitor.http.get("/user").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_nobody_is_on_the_page_before_signing_in(site: Program) -> None:
    with Visitor(site.url, known=False) as nobody:
        config = nobody.http.get("/auth/config").json()
        assert (config["passwordAuth"], config["headerAuth"], config["oauthProviders"]) == (True, False, [])
        assert nobody.http.post("/auth/header").status_code == 400
        assert nobody.http.get("/user").status_code == 401
        assert nobody.me() | {"signup": None} == {
            "name": None, "kind": None, "role": None, "signup": None, "history": True, "conversations": 0,
            "joined": False, "waiting": 0, "devices": [], "links": [], "password_min": 10,
        }  # fmt: skip
        assert Tab(nobody).accepted is False


def test_an_account_is_found_again_on_another_device(site: Program, ann: Visitor) -> None:
    name = name_of(ann)
    with Tab(ann) as tab:
        tab.ask("hello")
    assert ann.me() | {"name": None} == {
        "name": None, "kind": "account", "role": "user", "signup": True, "history": True, "conversations": 1,
        "joined": False, "waiting": 0, "devices": [], "links": [], "password_min": 10,
    }  # fmt: skip
    with Visitor(site.url, known=False) as phone:
        assert phone.sign_in(name.upper()).json() == {"success": True}
        assert phone.me() == ann.me()


def test_a_program_signs_in_and_sends_its_token(site: Program, ann: Visitor) -> None:
    form = {"username": name_of(ann), "password": PASSWORD, "grant_type": "password"}
    answer = httpx.post(f"{site.url}/api/auth/login", data=form, trust_env=False)
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "token_type"}
    assert answer.json()["token_type"] == "bearer"
    assert "access_token" not in answer.cookies
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert httpx.get(f"{site.url}/api/me", headers=headers, trust_env=False).json() == ann.me()
    assert httpx.get(f"{site.url}/user", headers=headers, trust_env=False).json()["identifier"] == name_of(ann)


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("GET", "/v1/models", b""),
        ("GET", "/v1/models/gemma2:2b", b""),
        ("GET", "/v1/nowhere", b""),
        ("POST", "/v1/chat/completions", b"{}"),
        ("POST", "/v1/chat/completions", b"{no json"),
        ("POST", "/v1/responses", b'{"model": 1}'),
        ("POST", "/v1/completions", b""),
        ("POST", "/v1/embeddings", b"{}"),
    ],
)
def test_a_stranger_learns_nothing_from_the_api_but_how_to_sign_in(
    site: Program, method: str, path: str, content: bytes
) -> None:
    for token in ({}, {"Authorization": "Bearer nobody"}):
        headers = {"Content-Type": "application/json"} | token
        answer = httpx.request(method, site.url + path, content=content, headers=headers, trust_env=False)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.json()["error"]["message"].startswith("Sign in: ")


def test_a_program_that_has_signed_in_lists_the_models_and_asks_one(site: Program, ann: Visitor) -> None:
    headers = {"Authorization": f"Bearer {token_of(ann)}"}
    (model, *_) = httpx.get(f"{site.url}/v1/models", headers=headers, trust_env=False).json()["data"]
    asked = {"model": model["id"], "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16}
    answer = httpx.post(f"{site.url}/v1/chat/completions", json=asked, headers=headers, timeout=60, trust_env=False)
    assert answer.status_code == 200
    unreadable = httpx.post(f"{site.url}/v1/chat/completions", json={}, headers=headers, trust_env=False)
    assert unreadable.status_code == 422


def test_the_document_says_that_programs_send_a_token(site: Program) -> None:
    document = site.get("/openapi.json")
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation.get("security", []) == ([{"HTTPBearer": []}] if wants_token(path) else []), path


@pytest.mark.parametrize("path", ["/login", "/api/auth/login"])
@pytest.mark.parametrize(
    ("language", "sentence"), [("en", "The name or the password is wrong"), ("ru", "Имя или пароль")]
)
def test_a_wrong_password_is_told_like_a_wrong_name(
    site: Program, ann: Visitor, path: str, language: str, sentence: str
) -> None:
    answers = [
        httpx.post(site.url + path, data=form, headers={"Accept-Language": language}, trust_env=False)
        for form in (
            {"username": name_of(ann), "password": OTHER},
            {"username": f"nobody-{new_id()}", "password": PASSWORD},
        )
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["code"] == "wrong_password"
    assert answers[0].json()["detail"].startswith(sentence)
    assert not any("access_token" in answer.cookies for answer in answers)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "a:b", "password": PASSWORD}, 422, "bad_name"),
        ({"name": "anon-x", "password": PASSWORD}, 422, "bad_name"),
        ({"name": "x-1", "password": "short"}, 422, "weak_password"),
        ({"name": "x-1"}, 422, "bad_request"),
        ({"name": ["x"], "password": {}}, 422, "bad_request"),
        (None, 422, "bad_request"),
    ],
)
def test_an_account_that_cannot_be_is_not_made(site: Program, body: Any, status: int, code: str) -> None:
    answer = httpx.post(f"{site.url}/api/auth/register", json=body, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "access_token" not in answer.cookies


def test_a_name_is_given_once(site: Program, ann: Visitor) -> None:
    body = {"name": name_of(ann).upper(), "password": OTHER}
    answer = httpx.post(f"{site.url}/api/auth/register", json=body, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")
    assert "access_token" not in answer.cookies


def test_another_password_ends_all_other_tokens_and_closes_their_pages(site: Program, ann: Visitor) -> None:
    name, old = name_of(ann), token_of(ann)
    with Visitor(site.url, known=False) as phone, Tab(ann) as here:
        phone.sign_in(name).raise_for_status()
        with Tab(phone) as there:
            wrong = ann.http.post("/api/auth/password", json={"old_password": OTHER, "new_password": OTHER})
            assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_password")
            weak = ann.http.post("/api/auth/password", json={"old_password": PASSWORD, "new_password": name})
            assert (weak.status_code, weak.json()["code"]) == (422, "weak_password")
            assert there.listen(0.2)  # both are open still
            changed = ann.http.post("/api/auth/password", json={"old_password": PASSWORD, "new_password": OTHER})
            assert changed.status_code == 200
            there.wait_until_closed()
            here.wait_until_closed()
        assert phone.http.get("/user").status_code == 401
        assert Tab(phone).accepted is False
        assert phone.sign_in(name, PASSWORD).status_code == 401
    assert token_of(ann) == changed.json()["access_token"] != old
    with Tab(ann) as again:
        assert again.accepted
    ann.http.cookies.set("access_token", old)
    assert ann.http.get("/user").status_code == 401


def test_signing_out_everywhere_ends_every_token_and_every_socket(site: Program, ann: Visitor) -> None:
    name, old = name_of(ann), token_of(ann)
    with Visitor(site.url) as bob, Tab(bob) as bobs, Visitor(site.url, known=False) as phone, Tab(ann) as here:
        phone.sign_in(name).raise_for_status()
        with Tab(phone) as there:
            answer = ann.http.post("/api/auth/logout-everywhere")
            assert answer.status_code == 204
            here.wait_until_closed()
            there.wait_until_closed()
        assert "access_token" not in ann.http.cookies
        for stale in (old, token_of(phone)):
            headers = {"Authorization": f"Bearer {stale}"}
            assert httpx.get(f"{site.url}/user", headers=headers, trust_env=False).status_code == 401
        bobs.ask("still here")
        assert bob.me()["conversations"] == 1
    assert ann.sign_in(name).status_code == 200
    assert ann.http.get("/user").status_code == 200


def test_signing_out_closes_the_other_pages_of_that_browser(ann: Visitor) -> None:
    with Tab(ann) as tab:
        assert ann.http.post("/logout").status_code == 200
        tab.wait_until_closed()
    assert "access_token" not in ann.http.cookies
    assert ann.http.get("/user").status_code == 401


def test_a_disabled_account_is_out_and_comes_back_with_its_conversations(
    site: Program, ann: Visitor, environment: dict[str, str]
) -> None:
    name = name_of(ann)
    with Tab(ann) as tab:
        tab.ask("hello")
        tab.send("client_message", question("!long 400", new_id()))
        tab.wait_for("task_start")
        assert manage(site, environment, "disable", name).returncode == 0
        wait_until_nobody(ann)
        assert ann.sign_in(name).status_code == 401
        tab.wait_until_closed()
    assert Tab(ann).accepted is False
    assert manage(site, environment, "enable", name).returncode == 0
    assert ann.sign_in(name).status_code == 200
    assert ann.me()["conversations"] == 1


def test_a_removed_account_is_not_made_anew_by_its_token(
    site: Program, ann: Visitor, environment: dict[str, str]
) -> None:
    name, old = name_of(ann), token_of(ann)
    with Tab(ann) as tab:
        tab.ask("hello")
    assert manage(site, environment, "remove", name, "--yes").stdout == f"{name} is removed, with 1 conversations.\n"
    wait_until_nobody(ann)
    assert name not in manage(site, environment, "list").stdout
    for _ in range(3):
        headers = {"Authorization": f"Bearer {old}"}
        assert httpx.get(f"{site.url}/user", headers=headers, trust_env=False).status_code == 401
        assert httpx.get(f"{site.url}/api/me", headers=headers, trust_env=False).json()["kind"] is None
    assert name not in manage(site, environment, "list").stdout
    # Somebody else takes the name: the old token is not theirs.
    assert manage(site, environment, "add", name, "--password-stdin", typed=f"{OTHER}\n").returncode == 0
    with Visitor(site.url, known=False) as other:
        assert other.sign_in(name, OTHER).status_code == 200
        assert other.me()["conversations"] == 0
    headers = {"Authorization": f"Bearer {old}"}
    assert httpx.get(f"{site.url}/user", headers=headers, trust_env=False).status_code == 401


def test_a_token_of_another_form_is_nobodys(site: Program, ann: Visitor) -> None:
    said = jwt.decode(token_of(ann), options={"verify_signature": False})
    assert said["exp"] - said["iat"] == 30 * 24 * 3600
    good = {"Authorization": f"Bearer {jwt.encode(said, KEY, algorithm='HS256')}"}
    assert httpx.get(f"{site.url}/user", headers=good, trust_env=False).status_code == 200
    for token in (
        jwt.encode(said, "", algorithm="none"),
        jwt.encode(said, "x" * 32, algorithm="HS256"),
        jwt.encode(said, KEY * 2, algorithm="HS512"),
        jwt.encode(said | {"exp": time.time() - 1}, KEY, algorithm="HS256"),
        jwt.encode(said | {"metadata": {}}, KEY, algorithm="HS256"),
        jwt.encode(said | {"metadata": said["metadata"] | {"version": 9}}, KEY, algorithm="HS256"),
        jwt.encode({"identifier": said["identifier"]}, KEY, algorithm="HS256"),
    ):
        for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"access_token={token}"}):
            for path in ("/user", "/project/settings"):
                assert httpx.get(site.url + path, headers=headers, trust_env=False).status_code == 401
            assert httpx.get(f"{site.url}/api/me", headers=headers, trust_env=False).json()["kind"] is None


def test_the_log_has_no_name_no_password_and_no_token(site: Program, ann: Visitor) -> None:
    name, token = name_of(ann), token_of(ann)
    ann.sign_in(name, OTHER)
    ann.http.post("/api/auth/logout-everywhere")
    for hidden in (name, PASSWORD, OTHER, token, KEY):
        assert hidden not in site.text()


def test_links_are_for_servers_without_a_login(ann: Visitor) -> None:
    for method, path, body in (
        ("POST", "/api/me/links", None),
        ("DELETE", f"/api/me/links/{new_id()}", None),
        ("POST", "/api/me/join", {"code": "x" * 43}),
        ("DELETE", f"/api/me/devices/{new_id()}", None),
    ):
        answer = ann.call(method, path, body)
        assert (answer.status_code, answer.json()["code"]) == (403, "no_links")


@pytest.mark.parametrize("path", ["/api/auth/password", "/api/auth/logout-everywhere", "/api/me/adopt"])
def test_nobody_has_nothing_to_change(site: Program, path: str) -> None:
    body = {"old_password": PASSWORD, "new_password": OTHER, "take": True}
    answer = httpx.post(site.url + path, json=body, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")


def test_tries_are_counted_and_others_are_not_kept_out(ollama: Program, tmp_path: Path) -> None:
    variables = {"OLLAMA_HOST": ollama.url, "AUTH": "password", "SIGNUP": "on", "LOGIN_TRIES": "4"}
    with (
        server(tmp_path, **variables) as site,
        Visitor(site.url) as ann,
        Visitor(site.url, known=False) as eve,
    ):
        name = name_of(ann)
        codes = [eve.sign_in(name, OTHER).status_code for _ in range(6)]
        assert codes == [401] * 4 + [429] * 2
        refused = eve.http.post("/api/auth/login", data={"username": name, "password": PASSWORD})
        assert refused.status_code == 429
        assert refused.json()["code"] == "too_many_tries"
        assert 0 < int(refused.headers["Retry-After"]) <= 300
        assert refused.headers["Retry-After"] in refused.json()["detail"]
        # Ann, in the browser that she uses, gets in.
        assert ann.sign_in(name).status_code == 200
        for _ in range(3):
            ann.http.post("/api/auth/password", json={"old_password": OTHER, "new_password": PASSWORD})
        body = {"old_password": PASSWORD, "new_password": OTHER}
        assert ann.http.post("/api/auth/password", json=body).status_code == 429
        made = [
            eve.http.post("/api/auth/register", json={"name": f"n{i}", "password": PASSWORD}).status_code
            for i in range(4)
        ]
        assert made == [201] * 3 + [429]


def test_accounts_are_not_made_by_people_unless_that_is_allowed(ollama: Program, tmp_path: Path) -> None:
    with server(tmp_path, OLLAMA_HOST=ollama.url, AUTH="password") as site:
        assert "AUTH nobody can sign in yet. Add somebody: python -m app.users add NAME" in site.text()
        assert "docker exec -it chainlit-ollama python -m app.users add NAME" in site.text()
        answer = httpx.post(
            f"{site.url}/api/auth/register", json={"name": "Eve", "password": PASSWORD}, trust_env=False
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "signup_off")
        with Visitor(site.url, known=False) as visitor:
            assert visitor.me()["signup"] is False
            assert visitor.sign_in("Eve").status_code == 401


def test_what_a_browser_had_before_there_was_a_login_comes_along_if_it_is_wanted(
    ollama: Program, tmp_path: Path
) -> None:
    with (
        server(tmp_path, OLLAMA_HOST=ollama.url) as site,
        Visitor(site.url) as one,
        Visitor(site.url) as other,
    ):
        for visitor in (one, other):
            with Tab(visitor) as tab:
                tab.ask("from before")
        cookies = [(visitor.http.cookies["visitor"], token_of(visitor)) for visitor in (one, other)]
    with server(tmp_path, OLLAMA_HOST=ollama.url, AUTH="password", SIGNUP="on") as site:
        for (cookie, token), take in zip(cookies, (True, False), strict=True):
            with Visitor(site.url, known=False) as visitor:
                visitor.http.cookies.set("visitor", cookie)
                visitor.http.cookies.set("access_token", token)
                assert visitor.http.get("/user").status_code == 401
                visitor.http.cookies.delete("access_token")
                visitor.sign_up(f"user-{take}")
                assert (visitor.me()["waiting"], visitor.me()["conversations"]) == (1, 0)
                answer = visitor.http.post("/api/me/adopt", json={"take": take})
                assert answer.json() == {"moved": int(take)}
                assert (visitor.me()["waiting"], visitor.me()["conversations"]) == (0, int(take))
                assert visitor.http.post("/api/me/adopt", json={"take": True}).json() == {"moved": int(not take)}


def test_while_the_database_is_away_who_was_signed_in_still_chats(
    postgres: Postgres, ollama: Program, tmp_path: Path
) -> None:
    url = postgres.url(wait_for(postgres.new_database))
    variables = {"OLLAMA_HOST": ollama.url, "AUTH": "password", "SIGNUP": "on", "DATABASE_URL": url}
    with server(tmp_path, **variables) as site, Visitor(site.url) as ann:
        postgres.stop()
        assert ann.http.get("/user").status_code == 200
        with Tab(ann) as tab:
            tab.ask("still here")
        assert ann.sign_in("ann").status_code == 503
        assert ann.http.get("/api/me").status_code == 503
        postgres.start()
        assert ann.me()["kind"] == "account"


# By a provider


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Provider]:
    with provider() as known:
        yield known


@pytest.fixture(scope="module")
def oauth_site(ollama: Program, elsewhere: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    variables = {"OLLAMA_HOST": ollama.url, "AUTH": "password,oauth", "SIGNUP": "on"}
    allowed = {"OAUTH_ALLOWED": "@example.org, eve@example.com"}
    with server(tmp_path_factory.mktemp("oauth"), **variables, **allowed, **elsewhere.variables) as program:
        yield program


def come_by_provider(visitor: Visitor, elsewhere: Provider, user: dict[str, Any] | None) -> httpx.Response:
    """What a browser does after a click on the provider's button; returns where it ends up."""
    elsewhere.user = user
    sent = visitor.http.get("/auth/oauth/generic")
    back = httpx.get(sent.headers["location"], trust_env=False).headers["location"]
    parts = urlsplit(back)
    return visitor.http.get(f"{parts.path}?{parts.query}")


def test_who_is_sent_by_a_provider_has_an_account(oauth_site: Program, elsewhere: Provider) -> None:
    with Visitor(oauth_site.url, known=False) as ann, Visitor(oauth_site.url, known=False) as phone:
        assert ann.http.get("/auth/config").json()["oauthProviders"] == ["generic"]
        answer = come_by_provider(ann, elsewhere, {"email": "ann@example.org"})
        assert answer.headers["location"].startswith("/login/callback?success=True")
        with Tab(ann) as tab:
            tab.ask("hello")
        me = ann.me()
        assert (me["name"], me["kind"], me["role"], me["conversations"]) == ("ann@example.org", "oauth", "user", 1)
        assert ann.http.get("/user").json()["identifier"] == "generic:ann@example.org"
        come_by_provider(phone, elsewhere, {"email": "ann@example.org"})
        assert phone.me() == me
        # Nobody becomes her by a password.
        with Visitor(oauth_site.url, known=False) as eve:
            eve.sign_up("ann@example.org")
            assert eve.me()["conversations"] == 0
            assert eve.sign_in("generic:ann@example.org").status_code == 401
            assert (
                eve.http.post(
                    "/api/auth/register", json={"name": "generic:ann@example.org", "password": PASSWORD}
                ).status_code
                == 422
            )
        body = {"old_password": "", "new_password": OTHER}
        assert ann.http.post("/api/auth/password", json=body).json()["code"] == "no_password"
        ann.http.post("/logout").raise_for_status()
        assert ann.http.get("/user").status_code == 401
        phone.http.post("/api/auth/logout-everywhere").raise_for_status()
        assert phone.http.get("/user").status_code == 401


@pytest.mark.parametrize(
    "user",
    [
        None,
        {},
        {"email": ""},
        {"email": "mallory@example.com"},
        {"email": "mallory@evil-example.org"},
        {"email": "x@example.org", "email_verified": False},
        {"email": "@"},
    ],
)
def test_who_is_not_allowed_stays_out(oauth_site: Program, elsewhere: Provider, user: dict[str, Any] | None) -> None:
    with Visitor(oauth_site.url, known=False) as mallory:
        answer = come_by_provider(mallory, elsewhere, user)
        assert answer.headers["location"].endswith("/login?error=oauthSignin")
        assert "access_token" not in mallory.http.cookies
        assert mallory.me()["kind"] is None


def test_a_disabled_account_does_not_come_back_by_its_provider(oauth_site: Program, elsewhere: Provider) -> None:
    with Visitor(oauth_site.url, known=False) as eve:
        come_by_provider(eve, elsewhere, {"email": "eve@example.com"})
        assert eve.me()["kind"] == "oauth"
        done = manage(oauth_site, {}, "disable", "generic:eve@example.com")
        assert done.returncode == 0, done.stderr
        wait_until_nobody(eve)
        answer = come_by_provider(eve, elsewhere, {"email": "eve@example.com"})
        assert answer.headers["location"].endswith("/login?error=oauthSignin")
        assert eve.http.get("/user").status_code == 401


def test_a_code_of_anothers_browser_signs_nobody_in(oauth_site: Program, elsewhere: Provider) -> None:
    elsewhere.user = {"email": "ann@example.org"}
    with Visitor(oauth_site.url, known=False) as ann, Visitor(oauth_site.url, known=False) as eve:
        sent = ann.http.get("/auth/oauth/generic")
        back = urlsplit(httpx.get(sent.headers["location"], trust_env=False).headers["location"])
        answer = eve.http.get(f"{back.path}?{back.query}")
        assert "error=oauthSignin" in answer.headers["location"]
        assert eve.me()["kind"] is None


@pytest.mark.parametrize("auth", ["oauth", "password,oauth"])
def test_a_server_without_any_provider_does_not_start(tmp_path: Path, auth: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "app"],
        env=clean_environment(AUTH=auth, PORT=str(free_port()), DATA_DIR=str(tmp_path)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"chainlit-ollama: AUTH={auth} needs the variables of a provider")
    assert ended.stderr.count("\n") == 1
