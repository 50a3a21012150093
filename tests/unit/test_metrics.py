"""The series that Prometheus reads, and who may read them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from starlette.testclient import TestClient

from app.api.metrics import metrics_routes
from app.assembly.answering import answering
from app.assembly.measuring import empty_registry, measure_server
from app.page.forgetful import ForgetfulStore
from app.series import StorageSeries
from app.settings import Settings
from app.storage.database import Database
from app.storage.problems import DatabaseAway
from app.windows import Windows

TOKEN = "token-of-the-metrics"


def client(token: str | None = None, address: str = "127.0.0.1") -> TestClient:
    registry = CollectorRegistry()
    StorageSeries(registry, unsaved=lambda: 3, lost=lambda: 2, up=lambda: False)
    app = FastAPI()
    app.include_router(metrics_routes(registry, SecretStr(token) if token else None, AsyncMock()))
    return TestClient(app, client=(address, 1234))


def test_the_storages_series_are_told_in_prometheus_words() -> None:
    answer = client().get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    found = {sample.name: (family.type, sample.value) for family in families for sample in family.samples}
    assert found == {
        "chainlit_ollama_unsaved_writes": ("gauge", 3),
        "chainlit_ollama_lost_writes_total": ("counter", 2),
        "chainlit_ollama_database_up": ("gauge", 0),
    }


@pytest.mark.usefixtures("nothing_set")
async def test_a_database_of_accounts_alone_is_told_of_and_where_there_is_none_no_series_is(tmp_path: Path) -> None:
    answers = answering(Settings(_env_file=None), Windows())
    for database in (Database("postgresql+asyncpg://ann@127.0.0.1:9/chat"), None):
        registry = empty_registry()
        measure_server(registry, answers, database, ForgetfulStore(), open_pages=lambda: 0, data_dir=tmp_path)
        assert registry.get_sample_value("chainlit_ollama_database_up") == (None if database is None else 1)
        if database is not None:
            with suppress(DatabaseAway):
                await database.open()
            assert registry.get_sample_value("chainlit_ollama_database_up") == 0
            await database.close()
    await answers.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "172.17.0.1", "192.168.0.9", "fd00::1"])
def test_without_a_token_they_are_for_loopback_and_private_addresses(address: str) -> None:
    assert client(address=address).get("/metrics").status_code == 200


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "testclient", ""])
def test_anybody_else_is_told_what_to_set(address: str) -> None:
    answer = client(address=address).get("/metrics")
    assert answer.status_code == 403
    assert "METRICS_TOKEN" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "8.8.8.8"},
        {"X-Forwarded-For": "10.0.0.1, 8.8.8.8"},
        {"X-Real-IP": "8.8.8.8"},
        {"Forwarded": "for=8.8.8.8"},
        {"X-Forwarded-For": "unknown"},
    ],
)
def test_a_proxy_on_the_same_machine_opens_them_to_nobody_from_elsewhere(headers: dict[str, str]) -> None:
    assert client().get("/metrics", headers=headers).status_code == 403


def test_a_proxy_may_ask_for_somebody_near() -> None:
    assert client().get("/metrics", headers={"X-Forwarded-For": "192.168.0.9"}).status_code == 200


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
def test_with_a_token_nobody_reads_them_without_it(given: str | None) -> None:
    answer = client(TOKEN).get("/metrics", headers={} if given is None else {"Authorization": given})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_a_token_they_are_read_from_everywhere(scheme: str) -> None:
    answer = client(TOKEN, "8.8.8.8").get("/metrics", headers={"Authorization": f"{scheme} {TOKEN}"})
    assert answer.status_code == 200
