"""What a Prometheus reads of a running server."""

from __future__ import annotations

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Site


def scrape(site: Site) -> list[Metric]:
    answer = httpx.get(f"{site.program.url}/metrics", trust_env=False)
    assert answer.status_code == 200
    return list(text_string_to_metric_families(answer.text))


def value(found: list[Metric], name: str, **labels: str) -> float | None:
    """Of the one sample of that name with these labels among others; None: there is none."""
    values = [
        sample.value
        for family in found
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(values) <= 1
    return values[0] if values else None


def test_a_reply_is_in_the_series_with_its_source_and_model(site: Site) -> None:
    labels = {"source": "v1", "engine": "ollama", "model": "gemma2:2b", "outcome": "finished"}
    before = value(scrape(site), "chainlit_ollama_requests_total", **labels) or 0
    assert site.chat("hello").status_code == 200
    assert value(scrape(site), "chainlit_ollama_requests_total", **labels) == before + 1


def test_the_server_tells_of_itself(site: Site) -> None:
    found = scrape(site)
    assert value(found, "chainlit_ollama_engine_up", engine="ollama") == 1
    assert value(found, "chainlit_ollama_num_requests_running", engine="ollama") == 0
    assert value(found, "chainlit_ollama_open_pages") == 0
    assert value(found, "chainlit_ollama_database_up") == 1
    assert (value(found, "process_resident_memory_bytes") or 0) > 50e6
    assert value(found, "chainlit_ollama_build_info") == 1
    free, size = (value(found, f"chainlit_ollama_disk_{name}_bytes") or 0 for name in ("free", "size"))
    assert 0 < free < size
    used, size = (
        value(found, f"chainlit_ollama_memory_{name}_bytes", scope="machine") or 0 for name in ("used", "size")
    )
    assert 0 < used < size


def test_requests_are_counted_by_route_and_not_by_what_somebody_types(site: Site) -> None:
    for path in ("/health", "/nobody-has-this-1", "/nobody-has-this-2", "/v1/nobody-has-this", "/metrics"):
        httpx.get(site.program.url + path, trust_env=False)
    httpx.request("BREW", f"{site.program.url}/health", trust_env=False)
    site.chat("hello", model="nobody-has-this-3")
    page = httpx.get(f"{site.program.url}/metrics", trust_env=False).text
    assert "nobody-has-this" not in page
    found = [sample.labels for family in scrape(site) for sample in family.samples if "handler" in sample.labels]
    handlers = {labels["handler"] for labels in found}
    assert {"/health", "/v1/chat/completions"} <= handlers
    assert "/metrics" not in handlers
    assert "BREW" not in {labels.get("method") for labels in found}
