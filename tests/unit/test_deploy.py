"""deploy/: the manifests and Compose files are valid, and say nothing that the program does not know."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from unittest.mock import AsyncMock, Mock

import kubernetes_validate
import pytest
from prometheus_client import CollectorRegistry

from app.api.debug import debug_routes
from app.api.health import health_routes
from app.api.metrics import metrics_routes
from app.series import ReplySeries
from app.settings import ROOT, Settings, read_settings, variable_names
from app.sizing import Machine, plan
from tests.container.docker import docker, program
from tests.deployed import (
    DEPLOY,
    KUBERNETES,
    OVERLAYS,
    Manifest,
    containers,
    documents,
    environment,
    of_kind,
    rendered,
    secrets,
    selects,
    templates,
)

FOLDERS: Final = (*OVERLAYS, "vllm-model")
COMPOSE: Final = ("vllm/compose.yaml", "vllm/compose.ray.yaml")
OURS: Final = {name for field in Settings.model_fields for name in variable_names(field)}
# Variables of the programs that stand beside ours.
THEIRS: Final = {
    "ollama": {
        *("OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_KEEP_ALIVE"),
        *("OLLAMA_NO_CLOUD", "OLLAMA_NOPRUNE", "LLAMA_ARG_CACHE_RAM", "LLAMA_ARG_CACHE_REUSE", "LLAMA_ARG_SWA_FULL"),
        "HOME",
    },
    "vllm": {
        *("VLLM_API_KEY", "VLLM_CACHE_ROOT", "VLLM_NO_USAGE_STATS", "VLLM_HOST_IP", "DO_NOT_TRACK"),
        *("HF_HOME", "HF_HUB_OFFLINE", "HOME", "RAY_USAGE_STATS_ENABLED"),
        *("NODES", "GPUS_PER_NODE", "HEAD_IP"),  # of the commands in compose.ray.yaml themselves
    },
    "model": {"HF_HOME", "HF_TOKEN", "HOME"},
    "models": set[str](),
    "redis": {"REDIS_PASSWORD"},
}
THEIRS["head"] = THEIRS["worker"] = THEIRS["vllm"]
# Compose's own knobs in .env, which name images, ports and how vLLM spreads a model.
KNOBS: Final = {
    *("IMAGE", "VLLM_IMAGE", "RAY_IMAGE", "VLLM_MODEL", "GPUS", "GPU_MEMORY", "TENSOR_PARALLEL", "PIPELINE_PARALLEL"),
    *("HF_TOKEN", "HEAD_IP", "NODE_IP", "NODES", "GPUS_PER_NODE"),
}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(KUBERNETES / request.param)


def chat_of(overlay: list[Manifest]) -> tuple[Manifest, Manifest]:
    """The chat's template and its container."""
    template = dict(templates(overlay))["chat"]
    (container,) = template["spec"]["containers"]
    return template, container


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_manifest_is_what_kubernetes_knows_and_nothing_else(folder: str) -> None:
    for manifest in rendered(KUBERNETES / folder):
        kubernetes_validate.validate(manifest, "1.31", strict=True)
        kubernetes_validate.validate(manifest, "1.37", strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "chat"


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    (manifest,) = of_kind(rendered(KUBERNETES / "vllm"), "Deployment", "chat")
    manifest["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_every_file_of_manifests_is_in_a_kustomization() -> None:
    named = {
        (path.parent / name).resolve()
        for path in KUBERNETES.rglob("kustomization.yaml")
        for name in documents(path)[0]["resources"]
    }
    files = {path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert files - named == {KUBERNETES / "prometheus-adapter.yaml"}  # Helm's


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_variable_of_a_manifest_is_a_setting_or_known_to_the_program_that_gets_it(folder: str) -> None:
    manifests = rendered(KUBERNETES / folder)
    for _, template in templates(manifests):
        for container in containers(template):
            known = OURS if container["name"] == "chat" else THEIRS[container["name"]]
            assert environment(container, manifests).keys() <= known, container["name"]


def test_the_chats_settings_are_good_ones(overlay: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "DATABASE_URL": "postgresql://user:word@host/chat",
        "SECRET_KEY": "0123456789abcdef" * 4,
        "RATE_LIMIT_STORAGE": "redis://:word@redis:6379",
        "VLLM_API_KEY": "key",
        "METRICS_TOKEN": "token",
    }
    _, container = chat_of(overlay)
    for name, value in environment(container, overlay).items():
        monkeypatch.setenv(name, made[name] if value is None else value)
    settings = read_settings(_env_file=None)
    assert settings.metrics_token is not None
    assert settings.port == container["ports"][0]["containerPort"]
    _, slash, model = settings.model.partition("/")
    assert slash
    if settings.vllm_url:
        assert model == dict(templates(overlay))["vllm"]["spec"]["containers"][0]["args"][0]
    else:
        assert model in settings.ollama_models


def test_probes_ask_for_paths_that_the_chat_has(overlay: list[Manifest]) -> None:
    _, container = chat_of(overlay)
    assert container["startupProbe"]["httpGet"]["path"] == container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    routes = health_routes(Mock(), Mock(), None, None, lost=int, urls={}, missed=bool, max_age=1)
    assert {"/health", "/ready"} <= {getattr(route, "path", None) for route in routes.routes}
    for _, template in templates(overlay):
        for asked in containers(template):
            ports = {port["name"] for port in asked.get("ports", ())}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = asked.get(kind, {})
                assert probe.get("httpGet", probe.get("tcpSocket", {})).get("port") in {None, *ports}


def test_whoever_selects_pods_finds_some(overlay: list[Manifest]) -> None:
    pods = {name: template["metadata"]["labels"] for name, template in templates(overlay)}
    ports = {
        name: {port["name"] for container in containers(template) for port in container.get("ports", ())}
        for name, template in templates(overlay)
    }
    for manifest in overlay:
        name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            assert selects(spec["selector"]["matchLabels"], pods[name])
        elif manifest["kind"] == "PodDisruptionBudget":
            assert [pod for pod in pods if selects(spec["selector"]["matchLabels"], pods[pod])] == ["chat"]
        elif manifest["kind"] == "Service" and "selector" in spec:
            (found,) = [pod for pod in pods if selects(spec["selector"], pods[pod])]
            assert {port["targetPort"] for port in spec["ports"]} <= ports[found]
        elif manifest["kind"] == "NetworkPolicy":
            sides = [*spec.get("ingress", ()), *spec.get("egress", ())]
            peers = [peer for side in sides for peer in (*side.get("from", ()), *side.get("to", ()))]
            selectors = [spec["podSelector"], *(peer["podSelector"] for peer in peers if "podSelector" in peer)]
            for selector in selectors:
                assert any(selects(selector.get("matchLabels", {}), labels) for labels in pods.values()), name
    (ingress,) = of_kind(overlay, "Ingress")
    for path in ingress["spec"]["rules"][0]["http"]["paths"]:
        backend = path["backend"]["service"]
        (service,) = of_kind(overlay, "Service", backend["name"])
        assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


def test_what_is_for_prometheus_is_not_for_visitors(overlay: list[Manifest]) -> None:
    (ingress,) = of_kind(overlay, "Ingress")
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    leads = {path["path"]: (path["pathType"], path["backend"]["service"]["name"]) for path in paths}
    assert leads == {"/metrics": ("Exact", "nobody"), "/debug": ("Prefix", "nobody"), "/": ("Prefix", "chat")}
    (nobody,) = of_kind(overlay, "Service", "nobody")
    assert "selector" not in nobody["spec"]
    metrics, debug = metrics_routes(CollectorRegistry(), None, AsyncMock()).routes, debug_routes(Mock(), None).routes
    assert [getattr(route, "path", None) for route in (*metrics, *debug)] == ["/metrics", "/debug/tasks"]


def test_what_the_chat_is_told_to_ask_is_where_a_service_and_a_policy_let_it(overlay: list[Manifest]) -> None:
    _, container = chat_of(overlay)
    told = environment(container, overlay)
    address = re.fullmatch(r"http://([a-z]+):(\d+)", told.get("VLLM_URL") or told.get("OLLAMA_HOST") or "")
    assert address
    (service,) = of_kind(overlay, "Service", address[1])
    assert service["spec"]["ports"][0]["port"] == int(address[2])
    (policy,) = of_kind(overlay, "NetworkPolicy", "engine")
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": int(address[2])}]
    (out,) = of_kind(overlay, "NetworkPolicy", "chat")
    assert {"protocol": "TCP", "port": int(address[2])} in out["spec"]["egress"][0]["ports"]


def test_nobody_is_let_in_or_out_but_by_a_policy(overlay: list[Manifest]) -> None:
    (nobody,) = of_kind(overlay, "NetworkPolicy", "nobody")
    assert nobody["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in of_kind(overlay, "NetworkPolicy"):
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())):
            assert rule.get("from") or rule.get("to")
            assert rule["ports"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_pod_runs_as_root_or_may_write_into_its_image(folder: str) -> None:
    for _, template in templates(rendered(KUBERNETES / folder)):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        # A Service `vllm` would set VLLM_PORT, and `ollama` OLLAMA_PORT, to an address.
        assert pod["enableServiceLinks"] is False
        for container in containers(template):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            volumes = {volume["name"] for volume in pod.get("volumes", ())} | {"models"}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_a_replica_has_the_time_to_end_that_it_takes(overlay: list[Manifest]) -> None:
    template, container = chat_of(overlay)
    stop = float(environment(container, overlay)["STOP_SECONDS"] or 0)
    before = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    # Replies, then writes where the database is away, and a little for the rest.
    assert template["spec"]["terminationGracePeriodSeconds"] >= before + 2 * stop + 5


def test_all_replicas_together_ask_no_more_of_the_engine_than_it_takes_at_once() -> None:
    manifests = rendered(KUBERNETES / "vllm")
    (scaler,) = of_kind(manifests, "HorizontalPodAutoscaler")
    told = environment(chat_of(manifests)[1], manifests)
    arguments = dict(
        argument.split("=") for argument in dict(templates(manifests))["vllm"]["spec"]["containers"][0]["args"][1:]
    )
    assert int(told["SLOTS"] or 0) * scaler["spec"]["maxReplicas"] == int(arguments["--max-num-seqs"])
    assert told["NUM_CTX"] == arguments["--max-model-len"]

    manifests = rendered(KUBERNETES / "ollama")
    (deployment,) = of_kind(manifests, "Deployment", "chat")
    told = environment(chat_of(manifests)[1], manifests)
    (ollama,) = dict(templates(manifests))["ollama"]["spec"]["containers"]
    theirs = environment(ollama, manifests)
    assert int(told["SLOTS"] or 0) * deployment["spec"]["replicas"] == int(theirs["OLLAMA_NUM_PARALLEL"] or 0)


def test_ollamas_memory_is_shared_out_as_on_one_machine() -> None:
    manifests = rendered(KUBERNETES / "ollama")
    told = environment(chat_of(manifests)[1], manifests)
    (ollama,) = dict(templates(manifests))["ollama"]["spec"]["containers"]
    theirs = environment(ollama, manifests)
    limits = ollama["resources"]["limits"]
    assert limits["memory"].endswith("Gi")
    machine = Machine(int(limits["memory"][:-2]) * 2**30, float(limits["cpu"]))
    found = plan(machine, slots=int(theirs["OLLAMA_NUM_PARALLEL"] or 0), context=int(told["NUM_CTX"] or 0))
    assert (told["NUM_THREAD"], told["MODEL_MEMORY"]) == (str(found.num_thread), str(found.model_memory))
    assert told["LLAMA_ARG_CACHE_RAM"] == theirs["LLAMA_ARG_CACHE_RAM"] == str(found.cache_ram)
    entrypoint = (ROOT / "entrypoint.sh").read_text(encoding="utf-8")
    for name in ("LLAMA_ARG_CACHE_REUSE", "LLAMA_ARG_SWA_FULL", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_KEEP_ALIVE"):
        assert f"{name}=${{{name}:-{theirs[name]}}}" in entrypoint
    for name in ("OLLAMA_NO_CLOUD", "OLLAMA_NOPRUNE"):
        assert f"{name}=${{{name}:-{theirs[name]}}}" in entrypoint


def test_the_models_of_the_image_are_copied_whole_and_once(tmp_path: Path) -> None:
    (first,) = dict(templates(rendered(KUBERNETES / "ollama")))["ollama"]["spec"]["initContainers"]
    image, volume = tmp_path / "image", tmp_path / "volume"
    (image / "blobs").mkdir(parents=True)
    (image / "blobs" / "sha256-1").write_text("weights")
    (image / "manifests" / "library" / "gemma2").mkdir(parents=True)
    (image / "manifests" / "library" / "gemma2" / "2b").write_text("list")
    (volume / "blobs").mkdir(parents=True)
    (volume / "blobs" / "sha256-1.part").write_text("wei")  # of a copy that was broken off
    (volume / "blobs" / "sha256-2").write_text("pulled by hand")
    script = first["args"][0].replace("/opt/ollama/models", str(image)).replace('"/models/', f'"{volume}/')
    for _ in range(2):
        subprocess.run([*first["command"], script], check=True)
    found = {str(path.relative_to(volume)): path.read_text() for path in volume.rglob("*") if path.is_file()}
    assert found == {
        "blobs/sha256-1": "weights",
        "blobs/sha256-2": "pulled by hand",
        "manifests/library/gemma2/2b": "list",
    }


def test_replicas_are_added_by_a_series_that_there_is(overlay: list[Manifest]) -> None:
    series = re.findall(r'_gauge\("(\w+)"', (ROOT / "app" / "series.py").read_text(encoding="utf-8"))
    names = {f"chainlit_ollama_{name}" for name in series}
    (adapter,) = documents(KUBERNETES / "prometheus-adapter.yaml")
    (rule,) = adapter["rules"]["custom"]
    assert rule["name"]["as"] in names
    assert rule["seriesQuery"].startswith(rule["name"]["as"])
    for scaler in of_kind(overlay, "HorizontalPodAutoscaler"):
        (metric,) = scaler["spec"]["metrics"]
        assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
        target = scaler["spec"]["scaleTargetRef"]
        (deployment,) = of_kind(overlay, target["kind"], target["name"])
        assert "replicas" not in deployment["spec"]  # each `kubectl apply` would take back what was added


def test_every_secret_is_made_by_make_secrets_and_none_is_in_git(overlay: list[Manifest], tmp_path: Path) -> None:
    assert of_kind(overlay, "Secret") == []
    # A kubectl that keeps what it was given.
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/sh\ncase "$*" in *get*) exit 1;; *create*) echo "$*" >>{tmp_path}/told; cat >>{tmp_path}/made;; esac\n'
    )
    kubectl.chmod(0o755)
    url = "postgresql://user:pass%20word#=@host/chat"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DATABASE_URL": url}
    ended = subprocess.run(
        [KUBERNETES / "make-secrets", "--context", "mine"], env=environment, check=True, capture_output=True, text=True
    )
    made = dict(line.split("=", 1) for line in (tmp_path / "made").read_text().splitlines())
    assert secrets(overlay) == {("chat", name) for name in made}
    assert made["DATABASE_URL"] == url
    assert made["RATE_LIMIT_STORAGE"] == f"redis://:{made['REDIS_PASSWORD']}@redis:6379"
    random = [made[name] for name in ("SECRET_KEY", "VLLM_API_KEY", "REDIS_PASSWORD")]
    assert len(set(random)) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in random)
    said = ended.stdout + ended.stderr + (tmp_path / "told").read_text()
    assert not any(value in said for value in made.values())
    assert "--context mine" in said


def test_without_a_database_no_secret_is_made(tmp_path: Path) -> None:
    ended = subprocess.run(
        [KUBERNETES / "make-secrets"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "DATABASE_URL" in ended.stderr


def test_vllms_key_is_made_once_and_for_nobody_else(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "vllm" / "make-env", tmp_path)
    (tmp_path / ".env").write_text("PORT=80\n")
    for _ in range(2):
        subprocess.run([tmp_path / "make-env"], check=True)
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines[0] == "PORT=80"
    assert re.fullmatch("VLLM_API_KEY=[0-9a-f]{64}", lines[1])
    assert len(lines) == 2
    (tmp_path / ".env").unlink()
    subprocess.run([tmp_path / "make-env"], check=True)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["README.md", "README.ru.md"])
def test_the_guidance_names_files_series_and_settings_that_there_are(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    other = (DEPLOY / ("README.md" if name != "README.md" else "README.ru.md")).read_text(encoding="utf-8")
    for place in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (DEPLOY / place).exists(), place
    headings = {
        re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-") for line in text.splitlines() if line[:3] == "## "
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings
    registry = CollectorRegistry()
    ReplySeries(registry)
    known = {metric.name for metric in registry.collect()}
    known |= {f"chainlit_ollama_{word}" for word in ("num_requests_running", "num_requests_waiting")}
    named = set(re.findall(r"chainlit_ollama_\w+", text))
    assert {word.removesuffix("_total") for word in named} <= known
    variables = re.compile(r"`([A-Z][A-Z_]{4,})`")
    knobs = KNOBS | OURS | {"HF_TOKEN"}
    assert set(variables.findall(text)) <= knobs
    assert set(variables.findall(text)) == set(variables.findall(other))
    assert re.findall("```bash\n(.*?) ", text) == re.findall("```bash\n(.*?) ", other)


def services(name: str) -> Iterator[tuple[str, Manifest]]:
    (file,) = documents(DEPLOY / name)
    yield from file["services"].items()


@pytest.mark.parametrize("name", COMPOSE)
def test_every_variable_of_a_compose_file_is_a_setting_or_known_to_the_program_that_gets_it(name: str) -> None:
    for service, told in services(name):
        known = OURS if service == "chat" else THEIRS[service]
        assert told.get("environment", {}).keys() <= known, service
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert set(re.findall(r"(?<!\$)\$\{(\w+)", text)) <= OURS | KNOBS


@pytest.mark.parametrize("name", COMPOSE)
def test_the_chat_waits_for_the_engine_has_its_key_and_time_to_end(name: str) -> None:
    found = dict(services(name))
    chat = found["chat"]
    ((engine, how),) = chat["depends_on"].items()
    assert how == {"condition": "service_healthy"}
    assert "/health" in found[engine]["healthcheck"]["test"][-1]
    key = chat["environment"]["VLLM_API_KEY"]
    assert key == found[engine]["environment"]["VLLM_API_KEY"] == "${VLLM_API_KEY:?run ./make-env first}"
    assert found[engine]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert float(chat["stop_grace_period"].rstrip("s")) >= 2 * chat["environment"]["STOP_SECONDS"] + 5
    text = str(found[engine]["command"])
    assert f"--max-num-seqs={chat['environment']['SLOTS']}" in text
    assert f"--max-model-len={chat['environment']['NUM_CTX']}" in text
    assert chat["environment"]["MODEL"] == f"vllm/{found[engine]['command'][-1 if engine == 'head' else 0]}"


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_takes_the_file_and_refuses_it_without_a_key(name: str, tmp_path: Path) -> None:
    if program() is None or docker("compose", "version", check=False).returncode != 0:
        pytest.skip("Docker Compose is not installed")
    settings = tmp_path / "env"
    told = "HEAD_IP=10.0.0.1\nNODE_IP=10.0.0.1\n"
    command = ("compose", "--env-file", str(settings), "--file", str(DEPLOY / name))
    command += tuple(f"--profile={profile}" for profile in ("head", "worker", "model"))
    settings.write_text(told)
    refused = docker(*command, "config", "--quiet", check=False)
    assert refused.returncode != 0
    assert "run ./make-env first" in refused.stderr
    settings.write_text(told + "VLLM_API_KEY=key\n")
    docker(*command, "config", "--quiet")
