"""A real Prometheus reads a running server; every query of the dashboard and every alert finds what it is about."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app import errors
from app.settings import ROOT
from scripts.dashboard import NOW, ROWS
from tests.api.conftest import Site
from tests.postgres import Postgres, wait_for
from tests.prometheus import FOLDER, Prometheus, configured, prometheus, promtool
from tests.site import fake_ollama, free_port, server

TOKEN: Final = "token-of-the-metrics"
PATIENCE: Final = 60.0
# What is wrong with the question, not with the server; or what passes by itself.
OF_THE_ASKER: Final = {"context_length_exceeded", "local_models_not_installed", "model_not_found", "model_not_ready"}

Alert = dict[str, str]


def alerts() -> dict[str, Alert]:
    found = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return {alert["alert"]: alert for group in found["groups"] for alert in group["rules"]}


def measured(alert: Alert) -> str:
    """An alert's expression without its comparison."""
    found = re.fullmatch(r"(.+) (?:==|>|<) [\d.]+", alert["expr"].strip(), re.DOTALL)
    assert found, alert["expr"]
    return found[1]


def queries() -> dict[str, str]:
    """Of the dashboard, by panel and line, with a range in place of Grafana's own."""
    panels = [*NOW, *(panel for _, row in ROWS for panel in row)]
    found = {f"{panel.title}, {query.name}": query.expression for panel in panels for query in panel.queries}
    assert len(found) == sum(len(panel.queries) for panel in panels)
    return {name: expression.replace("$__rate_interval", "1m") for name, expression in found.items()}


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Prometheus]]:
    """A server that wants a token, and a Prometheus that has it."""
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        fake_ollama(folder, "--speedup", "1000") as ollama,
        server(folder, OLLAMA_HOST=ollama.url, METRICS_TOKEN=TOKEN) as program,
        prometheus(folder, program, TOKEN) as reader,
    ):
        yield Site(program, ollama), reader


def test_after_a_short_load_every_query_of_the_dashboard_and_of_every_alert_has_data(
    read: tuple[Site, Prometheus],
) -> None:
    site, reader = read
    wanted = queries() | {name: measured(alert) for name, alert in alerts().items()}
    deadline = time.monotonic() + PATIENCE
    while wanted and time.monotonic() < deadline:
        assert site.chat("one two three").status_code == 200
        site.ollama.post("/_fake/faults", {"/api/chat": "500"})
        assert site.chat("four").status_code >= 500
        site.ollama.post("/_fake/faults", {})
        wanted = {name: expression for name, expression in wanted.items() if not reader.value(expression)}
    assert wanted == {}
    assert reader.value('up{job="chat"}') == [1]


def test_the_very_first_failure_of_its_kind_is_seen(read: tuple[Site, Prometheus]) -> None:
    site, reader = read
    failures = {
        "model_not_found": ("one", "nobody-has-this"),
        "context_length_exceeded": ("word " * 20_000, "gemma2:2b"),
    }
    series = {code: f'chainlit_ollama_request_errors_total{{code="{code}"}}' for code in failures}
    until(lambda: all(reader.value(f"count_over_time({one}[1m]) > 1") for one in series.values()))
    for text, model in failures.values():
        assert site.chat(text, model=model).status_code >= 400
    until(lambda: all(any(reader.value(f"increase({one}[1m])")) for one in series.values()))


def test_prometheus_takes_the_rules_and_none_of_them_fails(read: tuple[Site, Prometheus]) -> None:
    _, reader = read

    def states() -> dict[str, str]:
        groups = reader.get("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    deadline = time.monotonic() + PATIENCE
    while "unknown" in states().values() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert states() == dict.fromkeys(alerts(), "ok")


def test_promtool_is_content_with_configuration_and_rules(tmp_path: Path) -> None:
    promtool("check", "config", configured(tmp_path, TOKEN, {}))
    assert f"{len(alerts())} rules found" in promtool("check", "rules", FOLDER / "alerts.yml")


def test_each_alert_fires_when_it_should_and_not_when_it_should_not() -> None:
    promtool("test", "rules", FOLDER / "alerts_test.yml")
    cases = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    tried = [case for test in cases for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in tried if case["exp_alerts"]} == set(alerts())
    assert {case["alertname"] for case in tried if not case["exp_alerts"]} == set(alerts())


def test_every_failure_that_is_not_the_askers_counts_for_the_alert_of_errors() -> None:
    found = re.search(r'code=~"([^"]+)"', alerts()["ErrorRate"]["expr"])
    assert found
    pattern = re.compile(found[1])
    counted = {code for code in errors.codes(errors.EngineError) if pattern.fullmatch(code)}
    assert counted == errors.codes(errors.EngineError) - OF_THE_ASKER
    # No memory left, and a mistake of the program itself; all others are the asker's, or what the queue's alerts see.
    refused = {kind.code for kind in errors.ChatError.__subclasses__()} - {errors.EngineError.code}
    assert {code for code in {errors.ChatError.code, *refused} if pattern.fullmatch(code)} == {"error", "memory_short"}


def test_an_alert_says_what_happened_and_what_to_do() -> None:
    for name, alert in alerts().items():
        assert set(alert["annotations"]) == {"summary", "description"}, name  # type: ignore[call-overload]


class Scraper(threading.Thread):
    """Asks for `/metrics` without a pause until it is told to end. What is not well-formed is in `wrong`."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}/metrics"
        self._ending = threading.Event()
        self.answered = self.unanswered = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                answer = httpx.get(self._url, timeout=30, trust_env=False)
            except httpx.TimeoutException:
                self.wrong.append("it hangs")
            except httpx.TransportError:
                self.unanswered += 1
                time.sleep(0.01)
            else:
                self.answered += 1
                self._check(answer)

    def _check(self, answer: httpx.Response) -> None:
        try:
            names = {family.name for family in text_string_to_metric_families(answer.text)}
        except ValueError as problem:
            self.wrong.append(str(problem))
            return
        if answer.status_code != 200 or "chainlit_ollama_engine_up" not in names:
            self.wrong.append(f"{answer.status_code} {answer.text[:200]}")

    def end(self) -> None:
        self._ending.set()
        self.join(timeout=40)
        assert not self.is_alive()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_scrape_while_the_server_starts_and_ends_is_well_formed_or_not_answered(tmp_path: Path) -> None:
    port = free_port()
    scraper = Scraper(f"http://127.0.0.1:{port}")
    scraper.start()
    with (
        fake_ollama(tmp_path, "--speed", "20") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, PORT=str(port), STOP_SECONDS="1") as program,
    ):
        until(lambda: scraper.answered > 3)
        ask = {"messages": [{"role": "user", "content": "!echo " + "word " * 500}], "stream": True}
        with httpx.stream("POST", f"{program.url}/v1/chat/completions", json=ask, timeout=60, trust_env=False) as reply:
            next(reply.iter_lines())
            before, refused = scraper.answered, scraper.unanswered
            program.process.terminate()  # with a reply that is being written
            until(lambda: program.process.poll() is not None)
        until(lambda: scraper.unanswered > refused)
    scraper.end()
    assert scraper.wrong == []
    assert scraper.answered >= before


def test_a_scrape_while_the_database_is_away_says_so(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.url(wait_for(postgres.new_database))
    postgres.stop()
    with (
        fake_ollama(tmp_path, "--speedup", "1000") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, DATABASE_URL=url, MODELS_CACHE_SECONDS="1") as program,
    ):

        def up() -> float:
            answer = httpx.get(f"{program.url}/metrics", timeout=30, trust_env=False)
            found = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
            return found["chainlit_ollama_database_up"][0].value

        scraper = Scraper(program.url)
        scraper.start()
        until(lambda: up() == 0)
        until(lambda: scraper.answered > 10)
        postgres.start()
        until(lambda: up() == 1)
        postgres.stop()  # nobody but Prometheus asks for anything
        until(lambda: up() == 0)
        scraper.end()
        assert (scraper.wrong, scraper.unanswered) == ([], 0)


def test_grafana_and_prometheus_agree_on_how_often_the_server_is_read() -> None:
    source = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    assert source["datasources"][0]["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
