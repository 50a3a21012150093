"""What stands in deploy/: Kubernetes' manifests and Compose's files, as values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from app.settings import ROOT

DEPLOY: Final = ROOT / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"
OVERLAYS: Final = ("vllm", "ollama")
# What `rendered` knows of kustomize. Where one needs more, a real kustomize has to render it here, too.
_KNOWN: Final = {"apiVersion", "kind", "resources", "replicas", "images"}

Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    """The values of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document is not None]


def rendered(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` sends, but for the names of images."""
    (kustomization,) = documents(folder / "kustomization.yaml")
    assert kustomization.keys() <= _KNOWN, folder
    found: list[Manifest] = []
    for name in kustomization["resources"]:
        place = folder / name
        found += rendered(place) if place.is_dir() else documents(place)
    for change in kustomization.get("replicas", ()):
        (deployment,) = of_kind(found, "Deployment", change["name"])
        deployment["spec"]["replicas"] = change["count"]
    return found


def of_kind(manifests: list[Manifest], kind: str, name: str | None = None) -> list[Manifest]:
    return [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and (name is None or manifest["metadata"]["name"] == name)
    ]


def templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The name and the pod's template of whatever makes pods."""
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]


def containers(template: Manifest) -> list[Manifest]:
    """Those of a pod, the ones that run first included."""
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def environment(container: Manifest, manifests: list[Manifest]) -> dict[str, str | None]:
    """A container's variables; None: it is in a Secret."""
    maps = {found["metadata"]["name"]: found["data"] for found in of_kind(manifests, "ConfigMap")}
    values: dict[str, str | None] = {}
    for source in container.get("envFrom", ()):
        values |= maps[source["configMapRef"]["name"]]
    for variable in container.get("env", ()):
        place = variable.get("valueFrom", {})
        if "configMapKeyRef" in place:
            values[variable["name"]] = maps[place["configMapKeyRef"]["name"]][place["configMapKeyRef"]["key"]]
        else:
            values[variable["name"]] = variable.get("value")
    return values


def secrets(manifests: list[Manifest]) -> set[tuple[str, str]]:
    """Name and key of each Secret's value that a pod cannot start without."""
    places = (
        variable.get("valueFrom", {}).get("secretKeyRef")
        for _, template in templates(manifests)
        for container in containers(template)
        for variable in container.get("env", ())
    )
    return {(place["name"], place["key"]) for place in places if place and not place.get("optional")}


def selects(selector: Manifest, labels: Manifest) -> bool:
    """Whether `matchLabels`, or a Service's selector, takes a pod."""
    return selector.items() <= labels.items()
