"""The server as a process, without a browser."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.site import Program, clean_environment, fake_ollama, server

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


@pytest.mark.parametrize("path", ["/api/nothing", "/v1/nothing", "/v1/chat/completions"])
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
    assert site.get("/health") == {"status": "ok"}
    deadline = time.monotonic() + 20
    while (ready := site.get("/ready"))["status"] != "ready" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ready["status"] == "ready"
    assert httpx.get(f"{site.url}/ready", trust_env=False).status_code == 200


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
