"""The server as a process, without a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.server import _listen
from app.settings import Settings
from tests.postgres import PASSWORD, Postgres
from tests.site import Program, clean_environment, fake_ollama, free_port, server

KEY = "sk-very-secret-key-of-the-engine-0123456789"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("server")
    with (
        fake_ollama(folder, "--speedup", "100") as ollama,
        server(
            folder, OLLAMA_HOST=ollama.url, VLLM_URL="http://127.0.0.1:9", VLLM_API_KEY=KEY, LOG_LEVEL="DEBUG"
        ) as program,
    ):
        yield program


@pytest.mark.parametrize("path", ["/api", "/api/nothing", "/api/nothing/at/all"])
def test_an_unknown_path_of_an_api_is_answered_in_json_and_not_with_the_page(site: Program, path: str) -> None:
    answer = httpx.get(site.url + path, trust_env=False)
    assert answer.status_code == 404
    assert path in answer.json()["detail"]


def test_the_page_links_nothing_of_other_servers(site: Program) -> None:
    page = httpx.get(site.url, trust_env=False).text
    assert "https://" not in page.replace(site.url, "")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_there_is_no_mcp(site: Program, method: str) -> None:
    answer = httpx.request(method, f"{site.url}/mcp", json={"sessionId": "x", "clientType": "stdio"}, trust_env=False)
    assert answer.status_code == 404


# What `serve` does, with a route that breaks.
BREAKS = """
import asyncio, httpx
from app.server import _chainlit_environment
_chainlit_environment()
from app.main import create_app
from app.settings import Settings
from starlette.routing import Route

async def breaks(request):
    raise RuntimeError("nobody has foreseen this")

app = create_app(Settings(history=False))
for path in ("/api/breaks", "/v1/breaks"):
    app.router.routes.insert(0, Route(path, breaks))

async def ask(path):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answer = await client.get(path)
        print(answer.status_code, answer.headers["x-content-type-options"], sorted(answer.json()))

for path in ("/api/breaks", "/v1/breaks"):
    asyncio.run(ask(path))
"""


def test_an_unforeseen_error_is_answered_with_the_headers_of_all_answers(tmp_path: Path) -> None:
    environment = clean_environment() | {"CHAINLIT_AUTH_SECRET": KEY}
    done = subprocess.run(
        [sys.executable, "-c", BREAKS], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-2:] == ["500 nosniff ['code', 'detail']", "500 nosniff ['error']"]


def test_packages_that_nothing_uses_are_not_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from app.server import _chainlit_environment; _chainlit_environment(); import app.main;"
        "print([m for m in ('traceloop.sdk.prompts', 'mcp.types', 'torch', 'aiohttp', 'rich') if sys.modules.get(m)])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_health_and_readiness(site: Program) -> None:
    health = site.get("/health")
    assert health["status"] == "degraded"  # what VLLM_URL names is away
    database = health["database"]
    assert database.pop("age_seconds") < 60
    assert database == {"status": "ok", "state": "ok", "since": None, "waiting": 0, "lost": 0}
    engines = {engine["name"]: engine for engine in health["engines"]}
    assert (engines["ollama"]["status"], engines["vllm"]["status"]) == ("up", "away")
    assert KEY not in str(health)
    process = health["process"]
    assert process["pid"] == site.process.pid
    assert process["memory_bytes"] is None or process["memory_bytes"] > 10_000_000
    deadline = time.monotonic() + 20
    while (ready := site.get("/ready"))["status"] != "ready" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ready["status"] == "ready"
    assert httpx.get(f"{site.url}/ready", trust_env=False).status_code == 200
    default = site.get("/health")["default_model"]
    assert (default["id"], default["status"]) == ("ollama/gemma2:2b", "loaded")


def test_secrets_and_cookies_never_reach_the_log(site: Program) -> None:
    with httpx.Client(base_url=site.url, trust_env=False) as browser:
        browser.get("/")
        cookie = browser.cookies["visitor"]
        browser.post("/auth/header")
        token = browser.cookies["access_token"]
    log = site.text()
    secret = (site.log.parent / "data" / "secret.key").read_text(encoding="ascii")
    for hidden in (KEY, cookie, token, secret):
        assert hidden not in log


def test_the_secret_is_kept_for_its_owner_alone(site: Program) -> None:
    secret: Path = site.log.parent / "data" / "secret.key"
    assert secret.stat().st_mode & 0o077 == 0


def test_the_address_and_the_model_are_told_at_the_start(site: Program) -> None:
    log = site.text()
    assert f"open {site.url}" in log
    assert "gemma2:2b answers" in log


def _run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Start the server where it cannot start."""
    environment = clean_environment(HOST="127.0.0.1", PORT=str(free_port()), **variables)
    command = [sys.executable, "-m", "app"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_database_that_refuses_ends_the_start_with_one_line(postgres: Postgres, tmp_path: Path) -> None:
    ended = _run(tmp_path, DATABASE_URL=postgres.url("postgres", "hunter2"))
    assert ended.returncode == 1
    assert ended.stderr == (
        'chainlit-ollama: the database cannot be used (password authentication failed for user "chat")\n'
    )


def test_while_the_database_is_away_what_needs_it_is_refused_and_may_be_tried_again(tmp_path: Path) -> None:
    url = f"postgresql://chat:hunter2@127.0.0.1:{free_port()}/chat"
    with (
        fake_ollama(tmp_path) as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url) as site,
        httpx.Client(base_url=site.url, trust_env=False) as browser,
    ):
        assert browser.get("/").status_code == 200
        assert browser.post("/auth/header").status_code == 200
        for answer in (
            browser.post("/project/threads", json={"pagination": {"first": 5}, "filter": {}}),
            browser.get("/project/thread/some-thread"),
            browser.put("/project/thread", json={"threadId": "some-thread", "name": "x"}),
        ):
            assert answer.status_code == 503
            assert "Try again" in answer.json()["detail"]
        assert "STORE the database is away" in site.text()
        assert "STORE GET /project/thread/{thread_id} not answered" in site.text()
        for what in ("context not found", "hunter2", "some-thread"):
            assert what not in site.text()


def test_alembic_is_loaded_only_where_there_is_something_to_migrate(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from app.storage.database import Database;"
        "asyncio.run(Database.in_folder(Path('.')).open()); print('alembic' in sys.modules)"
    )
    for expected in ("True", "False"):
        command = [sys.executable, "-c", code]
        ended = subprocess.run(
            command, env=clean_environment(), cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert ended.stdout.strip() == expected


def test_a_file_that_is_no_database_ends_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chat.db").write_text("no database " * 100, encoding="utf-8")
    ended = _run(tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == "chainlit-ollama: the database cannot be used (file is not a database)\n"


async def test_the_server_keeps_visitors_in_postgresql(postgres: Postgres, tmp_path: Path) -> None:
    name = await postgres.new_database()
    with (
        fake_ollama(tmp_path) as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=postgres.url(name)) as site,
    ):
        async with httpx.AsyncClient(base_url=site.url, trust_env=False) as browser:
            await browser.get("/")
            assert (await browser.post("/auth/header")).status_code == 200
            threads = await browser.post("/project/threads", json={"pagination": {"first": 5}, "filter": {}})
        assert threads.status_code == 200, site.text()
        assert threads.json()["data"] == []
        assert len(await postgres.execute("SELECT * FROM users", name)) == 1
        assert "STORE the tables are made" in site.text()
        assert PASSWORD not in site.text()
    assert not (tmp_path / "data" / "chat.db").exists()


def test_an_answer_is_not_held_back_until_its_first_packet_is_received(tmp_path: Path) -> None:
    listener = _listen(Settings(_env_file=None, host="127.0.0.1", port=free_port(), data_dir=tmp_path))
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
        # What asyncio goes by when it switches off Nagle's algorithm.
        assert accepted.proto == socket.IPPROTO_TCP
