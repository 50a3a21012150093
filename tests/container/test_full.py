"""`make up-full`: what compose.yaml starts with the profile `full`, and that its Prometheus may read the chat."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from app.settings import ROOT
from tests.container.docker import PYTHON_IMAGE, docker, until
from tests.prometheus import installed

PROJECT: Final = "chainlit-ollama-test-full"
PROMETHEUS: Final = "chainlit-ollama-test/prometheus"
BESIDE: Final = {"postgres", "prometheus", "grafana"}
# As the official image is: a shell, both programs, a user without rights, and a folder that is its own.
STAND_IN: Final = f"""
FROM {PYTHON_IMAGE}
COPY prometheus promtool /bin/
RUN install -d -o nobody /prometheus
USER nobody
WORKDIR /prometheus
"""
ASK: Final = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9090/api/v1/query?query=up", timeout=5).read().decode())
"""


@pytest.fixture
def project(image: str, tmp_path: Path) -> Iterator[Path]:
    """A folder in which somebody has said `make up-full`, up to the start of the containers."""
    if docker("compose", "version", check=False).returncode != 0:
        pytest.skip("Docker Compose is not installed")
    for part in ("deploy", "scripts"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    nothing = tmp_path / "nothing" / "docker"
    nothing.parent.mkdir()
    nothing.write_text("#!/bin/sh\n", encoding="ascii")
    nothing.chmod(0o755)
    (tmp_path / ".env").write_text(f"PORT=0\nIMAGE={image}\nMEMORY=2g\n", encoding="ascii")
    path = f"{nothing.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([tmp_path / "scripts" / "up-full"], env=os.environ | {"PATH": path}, check=True, timeout=30)
    yield tmp_path
    compose(tmp_path, "down", "--volumes", check=False)


def compose(project: Path, *arguments: str, check: bool = True) -> str:
    options = ("--project-name", PROJECT, "--project-directory", str(project))
    return docker("compose", *options, *arguments, check=check).stdout


def configured(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(compose(project, "config", "--format", "json"))["services"]
    return found


def test_the_profile_is_whole_and_only_the_chat_and_grafana_have_ports(project: Path) -> None:
    services = configured(project)
    assert set(services) == {"chat"} | BESIDE
    ports = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert set(ports) == {"chat", "grafana"}
    assert ports["grafana"][0]["host_ip"] == "127.0.0.1"
    assert "postgres:5432/chat" in services["chat"]["environment"]["DATABASE_URL"]
    assert services["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    for name in BESIDE:
        tag = services[name]["image"].partition(":")[2]
        assert any(sign.isdigit() for sign in tag), tag
        assert services[name]["healthcheck"]["test"]
        assert services[name]["cap_drop"] == ["ALL"]
    # scripts/up-full leaves as much to them, and 256 MiB to the system.
    limits = sum(int(services[name]["mem_limit"]) for name in BESIDE) // 2**20
    assert f"BESIDE={limits + 256} " in (ROOT / "scripts" / "up-full").read_text(encoding="utf-8")


def test_no_password_reaches_whom_it_does_not_concern(project: Path) -> None:
    services = configured(project)
    for file in (project / "secrets").iterdir():
        for line in file.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition("=")
            having = {service for service, found in services.items() if value in json.dumps(found)}
            assert having <= {file.stem, "chat"} | ({"prometheus"} if name == "METRICS_TOKEN" else set())
            assert file.stem in having


def test_without_make_up_full_there_is_the_chat_alone(project: Path) -> None:
    shutil.rmtree(project / "secrets")
    (project / ".env").unlink()
    services = configured(project)
    assert set(services) == {"chat"}
    assert "DATABASE_URL" not in services["chat"]["environment"]
    for name in BESIDE:  # none of them without a password
        ended = docker(
            "compose", "--project-directory", str(project), "--profile", "full", "up", "--no-deps", name, check=False
        )
        assert ended.returncode != 0
        assert "secrets/" in ended.stderr


def test_its_prometheus_reads_the_chat_with_the_token(project: Path, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("prometheus", "promtool"):
        shutil.copy(installed(name), programs)
    docker("build", "--tag", PROMETHEUS, "--file", "-", str(programs), text=STAND_IN)
    with (project / ".env").open("a", encoding="ascii") as settings:
        settings.write(f"PROMETHEUS_IMAGE={PROMETHEUS}\n")
    config = project / "deploy" / "prometheus" / "prometheus.yml"
    config.write_text(config.read_text(encoding="utf-8").replace("scrape_interval: 15s", "scrape_interval: 1s"))
    compose(project, "up", "--detach", "--no-build", "--no-deps", "chat", "prometheus")
    container = compose(project, "ps", "--quiet", "prometheus").strip()

    def logs() -> str:
        return compose(project, "logs")

    def read() -> dict[str, str]:
        found = docker("exec", container, "python3", "-c", ASK, check=False).stdout
        results = json.loads(found)["data"]["result"] if found else []
        return {sample["metric"]["job"]: sample["value"][1] for sample in results}

    until(lambda: read() == {"chat": "1", "prometheus": "1"}, logs, 90)
    # Who has no token is refused, also on this private network.
    chat = compose(project, "ps", "--quiet", "chat").strip()
    asked = "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/metrics')"
    assert "401" in docker("exec", chat, "python3", "-c", asked, check=False).stderr
