"""Who may ask, how often, and by which id it is found in the log."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import Site
from tests.redis import PASSWORD, Redis
from tests.site import Program, clean_environment, fake_ollama, free_port, server
from tests.tab import Tab, Visitor

ANN, BOB = "0f1e2d3c4b5a69788796a5b4", "Zk3-q8_wLr2yTn6xVb0pHs4d"
SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
GENERATING = ["/v1/chat/completions", "/api/chat", "/chat", "/chat/", "/api/forward", "/forward_batch", "/stats"]
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with fake_ollama(tmp_path_factory.mktemp("ollama"), "--speedup", "10000") as program:
        yield program


@contextmanager
def running(folder: Path, ollama: Program, **settings: str) -> Iterator[Site]:
    with server(folder, **{"OLLAMA_HOST": ollama.url, "MODELS": "gemma2:2b"} | settings) as program:
        yield Site(program, ollama)


@pytest.fixture(scope="module")
def keyed(ollama: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Open to everybody on the page, to programs with a key."""
    folder = tmp_path_factory.mktemp("keyed")
    with running(folder, ollama, API_KEYS=f"ann:{ANN},bob:{BOB}", LOGIN_TRIES="500", LOG_LEVEL="DEBUG") as site:
        yield site


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# Keys


@pytest.mark.parametrize("path", GENERATING)
@pytest.mark.parametrize("headers", [{}, bearer("no-such-key-at-all"), {"X-API-Key": "no-such-key-at-all"}])
def test_without_a_key_nothing_of_a_request_is_read(keyed: Site, path: str, headers: dict[str, str]) -> None:
    for method in ("POST", "GET"):
        answer = httpx.request(method, keyed.program.url + path, content=b"{", headers=headers, trust_env=False)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        error = answer.json()["error"] if path.startswith("/v1/") else answer.json()
        assert error["code"] == "invalid_api_key"
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("headers", [bearer(ANN), {"X-API-Key": BOB}, bearer("any") | {"X-API-Key": ANN}])
def test_with_a_key_a_program_is_answered(keyed: Site, headers: dict[str, str]) -> None:
    assert keyed.post("/chat/completions", headers, messages=[{"role": "user", "content": "hi"}]).status_code == 200


def test_a_wrong_key_is_refused_also_where_none_is_wanted(keyed: Site) -> None:
    for path in ("/api/models", "/models", "/api/metadata"):
        assert httpx.get(keyed.program.url + path, headers=bearer("x"), trust_env=False).status_code == 401
        assert httpx.get(keyed.program.url + path, trust_env=False).status_code != 401


def test_with_keys_the_page_stays_open(keyed: Site) -> None:
    with Visitor(keyed.program.url) as visitor, Tab(visitor) as tab:
        tab.ask("hello")
        assert visitor.me()["conversations"] == 1
        # Who has the page's cookie has no key for all that.
        answer = visitor.http.post("/v1/chat/completions", json={})
        assert answer.status_code == 401


def test_a_key_never_reaches_the_log_its_name_reaches_the_requests(keyed: Site) -> None:
    keyed.post("/chat/completions", bearer(ANN), messages=[{"role": "user", "content": "hi"}])
    keyed.post("/chat/completions", bearer(f"{ANN}x"))
    deadline, rows = time.monotonic() + 20, []
    with closing(sqlite3.connect(keyed.program.log.parent / "data" / "chat.db")) as database:
        while not rows and time.monotonic() < deadline:
            rows = database.execute("SELECT 1 FROM request_logs WHERE client = 'ann'").fetchall()
            time.sleep(0.1)
    assert rows
    assert ANN not in keyed.program.text()
    assert BOB not in keyed.program.text()


def test_the_document_says_that_a_key_is_wanted(keyed: Site) -> None:
    document = keyed.program.get("/openapi.json")
    assert document["components"]["securitySchemes"] == {
        "HTTPBearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of this server, or the token that `POST /api/auth/login` gives.",
        }
    }
    assert document["paths"]["/v1/chat/completions"]["post"]["security"] == [{"HTTPBearer": []}]


def test_the_refusal_says_what_to_do_in_the_askers_language(keyed: Site) -> None:
    russian = httpx.post(f"{keyed.url}/responses", headers={"Accept-Language": "ru"}, trust_env=False).json()
    assert russian["error"]["message"].startswith("Нужен ключ.")
    unknown = httpx.post(f"{keyed.url}/responses", headers=bearer("wrong"), trust_env=False).json()
    assert unknown["error"]["message"].startswith("That key is not known here.")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=keyed.url, api_key="wrong").models.list()


def test_keys_and_a_login_together(ollama: Program, tmp_path: Path) -> None:
    settings = {"AUTH": "password", "SIGNUP": "on", "API_KEYS": f"ann:{ANN}", "SECRET_KEY": SECRET}
    with running(tmp_path, ollama, **settings) as site, Visitor(site.program.url) as person:
        token = str(person.http.cookies["access_token"])
        for headers in (bearer(ANN), bearer(token), {"X-API-Key": ANN}):
            assert (
                site.post("/chat/completions", headers, messages=[{"role": "user", "content": "hi"}]).status_code == 200
            )
        for headers in ({}, bearer(BOB), bearer(f"{token}x")):
            assert site.post("/chat/completions", headers).status_code == 401


def test_guessing_keys_ends_soon_and_keeps_nobody_out_who_was_in(ollama: Program, tmp_path: Path) -> None:
    with running(tmp_path, ollama, API_KEYS=f"ann:{ANN},bob:{BOB}", LOGIN_TRIES="3") as site:
        assert httpx.get(f"{site.url}/models", headers=bearer(ANN), trust_env=False).status_code == 200
        guesses = [httpx.get(f"{site.url}/models", headers=bearer(f"guess-{n}"), trust_env=False) for n in range(5)]
        assert [answer.status_code for answer in guesses] == [401, 401, 401, 429, 429]
        assert int(guesses[-1].headers["retry-after"]) > 200
        assert guesses[-1].json()["error"]["code"] == "too_many_tries"
        # Not told now whether it is one.
        assert httpx.get(f"{site.url}/models", headers=bearer(BOB), trust_env=False).status_code == 429
        assert httpx.get(f"{site.url}/models", headers=bearer(ANN), trust_env=False).status_code == 200


def test_a_key_that_is_none_ends_the_start_with_one_line_that_does_not_show_it(tmp_path: Path) -> None:
    environment = clean_environment(HOST="127.0.0.1", PORT=str(free_port()), API_KEYS="ann:the key of ann")
    command = [sys.executable, "-m", "app"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("chainlit-ollama: API_KEYS is not allowed: key 1 holds a sign")
    assert "the key of ann" not in ended.stderr + ended.stdout


def test_a_key_that_can_be_guessed_is_told_by_its_name(ollama: Program, tmp_path: Path) -> None:
    with running(tmp_path, ollama, API_KEYS="ann:password-of-ann") as site:
        assert "the key ann can be guessed" in site.program.text()
        assert "password-of-ann" not in site.program.text()


# Every route that lets a model work knows who asks: those are the ones to be guarded.
ROUTES = """
import json
from app.server import _chainlit_environment
_chainlit_environment()
from fastapi.routing import APIRoute, iter_route_contexts
from app.api.asking import _asker_of_api, _asker_of_v1
from app.main import create_app
from app.paths import wants_token
from app.settings import Settings

def asks(dependant):
    return dependant.call in (_asker_of_api, _asker_of_v1) or any(map(asks, dependant.dependencies))

app = create_app(Settings(history=False))
routes = [found for found in iter_route_contexts(app.routes) if isinstance(found.original_route, APIRoute)]
generating = [route.path for route in routes if asks(route.original_route.dependant)]
print(json.dumps({path: wants_token(path) for path in generating}))
print(json.dumps([route.path for route in routes if "stats" in route.path and not wants_token(route.path)]))
"""


def test_every_route_that_lets_a_model_work_is_guarded(tmp_path: Path) -> None:
    environment = clean_environment() | {"CHAINLIT_AUTH_SECRET": SECRET}
    command = [sys.executable, "-c", ROUTES]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    generating, stats = map(json.loads, done.stdout.splitlines()[-2:])
    assert {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"} <= set(generating)
    assert [path for path, guarded in generating.items() if not guarded] == []
    assert stats == []


# How often


def asked(site: Site, headers: dict[str, str] | None = None, **body: Any) -> int:
    return site.post("/chat/completions", headers, messages=[{"role": "user", "content": "hi"}], **body).status_code


def test_the_page_and_programs_have_one_limit_each_and_are_told_when_to_come_again(
    ollama: Program, tmp_path: Path
) -> None:
    with running(tmp_path, ollama, RATE_LIMIT="2/hour", FALLBACK_MODEL="gemma2:2b") as site:
        assert [asked(site), asked(site, stream=True)] == [200, 200]
        for stream in (False, True):
            refused = site.chat("hi", stream=stream)
            error = refused.json()["error"]
            assert (refused.status_code, error["code"], error["type"]) == (
                429,
                "rate_limit_exceeded",
                "rate_limit_error",
            )
            assert error["message"].startswith("You have sent 2 messages in the last hour. Try again in ")
            assert 3500 < int(refused.headers["retry-after"]) <= 3600
            assert refused.headers["content-type"] == "application/json"
        client = openai.OpenAI(base_url=site.url, api_key="any", max_retries=0)
        with pytest.raises(openai.RateLimitError):
            client.embeddings.create(model="gemma2:2b", input="hi")
        # A browser at the same address has its own.
        with Visitor(site.program.url) as visitor, Tab(visitor) as tab:
            tab.ask("one")
            cookie = {"Cookie": visitor.cookies}
            assert [asked(site, cookie), asked(site, cookie)] == [200, 429]


def test_browsers_that_drop_their_cookie_have_ten_times_as_many_together(ollama: Program, tmp_path: Path) -> None:
    with running(tmp_path, ollama, RATE_LIMIT="1/hour") as site:
        for number in range(11):
            with Visitor(site.program.url) as visitor, Tab(visitor) as tab:
                tab.ask("hello")
                refused = any("10 messages came from your network in the last hour" in told for told in tab.told)
            assert refused is (number == 10)


def forwarded(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


@pytest.mark.parametrize(
    ("settings", "statuses"),
    [
        ({"TRUSTED_PROXIES": "10.0.0.0/8"}, [200, 429, 429]),
        ({"FORWARDED_ALLOW_IPS": "10.0.0.1"}, [200, 429, 429]),
        ({"TRUSTED_PROXIES": "127.0.0.0/8"}, [200, 200, 429]),
        ({"FORWARDED_ALLOW_IPS": "*"}, [200, 200, 429]),
        ({}, [200, 200, 429]),
    ],
)
def test_an_address_is_believed_from_trusted_proxies_alone(
    ollama: Program, tmp_path: Path, settings: dict[str, str], statuses: list[int]
) -> None:
    with running(tmp_path, ollama, RATE_LIMIT="1/hour", **settings) as site:
        addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
        assert [asked(site, forwarded(address)) for address in addresses] == statuses


def test_replicas_count_together_in_redis_and_let_everybody_in_while_it_is_away(
    ollama: Program, redis: Redis, tmp_path: Path
) -> None:
    settings = {"RATE_LIMIT": "3/hour", "RATE_LIMIT_STORAGE": redis.url}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with running(tmp_path / "one", ollama, **settings) as one, running(tmp_path / "other", ollama, **settings) as other:
        assert [asked(one), asked(other), asked(one), asked(other), asked(one)] == [200, 200, 200, 429, 429]
        redis.stop()
        assert [asked(one), asked(other)] == [200, 200]
        assert "HEALTH RATE_LIMIT_STORAGE is away" in one.program.text()
        assert PASSWORD not in one.program.text() + other.program.text()


# Ids


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/favicon", 200),
        ("GET", "/public/theme.json", 200),
        ("GET", "/health", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("GET", "/v1/nowhere", 404),
        ("GET", "/api/nowhere", 404),
        ("GET", "/mcp", 404),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/chat/completions", 422),
        ("GET", "/user", 401),
    ],
)
def test_every_answer_has_an_id(site: Site, method: str, path: str, status: int) -> None:
    for sent, taken in (("", False), ("my-id_1.2", True), ("x" * 64, True), ("x" * 65, False), ("a b", False)):
        headers = {"X-Request-ID": sent} if sent else {}
        answer = httpx.request(method, site.program.url + path, headers=headers, trust_env=False)
        assert answer.status_code == status
        (found,) = answer.headers.get_list("x-request-id")
        assert ID.fullmatch(found)
        assert (found == sent) is taken


def test_what_is_refused_has_an_id_too(site: Site, keyed: Site) -> None:
    too_large = httpx.post(f"{site.url}/chat/completions", content=b"x" * 300_000, trust_env=False)
    other_site = httpx.post(f"{site.program.url}/feedback", headers={"Sec-Fetch-Site": "cross-site"}, trust_env=False)
    stranger = httpx.post(f"{keyed.url}/chat/completions", trust_env=False)
    for answer, status in ((too_large, 413), (other_site, 403), (stranger, 401)):
        assert (answer.status_code, len(answer.headers["x-request-id"])) == (status, 36)


def test_the_log_has_the_id_of_a_request_and_of_a_message_on_the_page(keyed: Site) -> None:
    headers = bearer(ANN) | {"X-Request-ID": "found-again-1"}
    asked(keyed, headers, stream=True)
    with Visitor(keyed.program.url) as visitor, Tab(visitor) as tab:
        tab.ask("hello")
    log = keyed.program.text()
    replies = re.findall(r" INFO (\S+) CHAT ollama/gemma2:2b finished", log)
    assert replies.count("found-again-1") == 1
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", replies[-1])
    assert len(set(replies)) == len(replies)
    assert re.search(r" INFO - HEALTH open http", log)


def test_openais_client_reads_the_id(site: Site) -> None:
    client = openai.OpenAI(base_url=site.url, api_key="any")
    messages: Any = [{"role": "user", "content": "hi"}]
    reply = client.chat.completions.create(model="gemma2:2b", messages=messages)
    assert reply._request_id is not None
    assert ID.fullmatch(reply._request_id)
    named = client.chat.completions.create(
        model="gemma2:2b", messages=messages, extra_headers={"X-Request-ID": "of-mine"}
    )
    assert named._request_id == "of-mine"
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nobody", messages=messages)
    assert refused.value.request_id


# How much


def test_no_nesting_and_no_number_of_messages_breaks_the_server(site: Site) -> None:
    for levels in (33, 1200, 100_000):
        for path in ("/chat/completions", "/embeddings"):
            answer = httpx.post(site.url + path, content=b"[" * levels, trust_env=False)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "too_deep")
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(10):
        schema = {"type": "object", "properties": {"inner": schema}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert site.chat("hi", model="qwen3:4b", tools=[tool]).status_code == 200
    many = site.post("/chat/completions", messages=[{"role": "user", "content": "a"}] * 1001)
    assert (many.status_code, many.json()["error"]["code"]) == (400, "too_many_messages")
    assert many.json()["error"]["param"] == "messages"
    talk = [{"role": role, "content": "a"} for role in ("user", "assistant")] * 500
    assert site.post("/chat/completions", messages=talk[:-1]).status_code == 200
