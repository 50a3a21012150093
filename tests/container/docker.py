"""Docker's command line, and containers of the image under test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.container.stub import build_stub

PYTHON_IMAGE: Final = "python:3.12-slim-bookworm"
OLLAMA_IMAGE: Final = "chainlit-ollama-test/ollama"
IMAGE: Final = "chainlit-ollama-test/chat"
# What the official image of Ollama looks like: the binary, files for the CPU, a folder for each kind of graphics card.
_OLLAMA: Final = f"""
FROM {PYTHON_IMAGE}
COPY ollama /usr/bin/ollama
RUN cd /usr/lib && mkdir -p ollama/cuda_v13 ollama/rocm ollama/vulkan && cd ollama \\
 && touch llama-server libggml-base.so.0 libggml-cpu-haswell.so && ln -s libggml-base.so.0 libggml-base.so \\
 && for gpu in cuda_v13 rocm vulkan; do head -c 1048576 /dev/zero >$gpu/libgpu.so; done
ENV OLLAMA_HOST=0.0.0.0:11434 HOME=/root
"""


def program() -> str | None:
    """The docker command. Debian's is preferred: another on PATH may lack BuildKit."""
    return shutil.which("docker", path="/usr/bin") or shutil.which("docker")


def missing() -> str | None:
    """Why no container can be run here; None: one can."""
    if program() is None:
        return "no Docker on this machine"
    if docker("info", check=False).returncode != 0:
        return "no Docker engine answers, or this user may not use it"
    has_base = docker("image", "inspect", PYTHON_IMAGE, check=False).returncode == 0
    if not has_base and docker("pull", "--quiet", PYTHON_IMAGE, check=False).returncode != 0:
        return f"the image {PYTHON_IMAGE} is neither here nor to be had"
    return None


def docker(
    *arguments: str, check: bool = True, text: str | None = None, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run docker. What it printed is in the error where it fails and `check` is set."""
    ended = subprocess.run(
        [program() or "docker", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
    )
    if check and ended.returncode != 0:
        raise RuntimeError(f"docker {' '.join(arguments)}\n{ended.stdout[-3000:]}\n{ended.stderr[-6000:]}")
    return ended


def build_ollama(folder: Path, tag: str = OLLAMA_IMAGE, **environment: str) -> str:
    """Build the stand-in for Ollama's image, its knobs set by environment variables. Returns its tag."""
    build_stub(folder)
    extra = "".join(f"ENV {name}={value}\n" for name, value in environment.items())
    docker("build", "--tag", tag, "--file", "-", str(folder), text=_OLLAMA + extra)
    return tag


def build(root: Path, *arguments: str, ollama: str = OLLAMA_IMAGE, check: bool = True) -> Any:
    """Build the Dockerfile of the repository. The host's network: the package index may only be reachable from it."""
    return docker(
        "build",
        *("--network", "host", "--build-arg", f"OLLAMA_IMAGE={ollama}"),
        *arguments,
        str(root),
        check=check,
    )


def run_container(image: str, *options: str, publish: bool = True, **variables: str) -> Container:
    """Start a container; its page's port is published to a free one of loopback.

    Args:
        options: of `docker run`.
        publish: False: no port is.
        variables: its environment.
    """
    port = ("--publish", "127.0.0.1::8000") if publish else ()
    settings = (part for name, value in variables.items() for part in ("--env", f"{name}={value}"))
    return Container(docker("run", "--detach", *port, *options, *settings, image).stdout.strip())


@dataclass
class Container:
    """A running container of the image."""

    id: str

    @property
    def url(self) -> str:
        """Where its page is."""
        place = docker("port", self.id, "8000/tcp").stdout.split()[0]
        return f"http://{place}"

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.id).stdout)[0]["State"]
        return found

    def logs(self) -> str:
        ended = docker("logs", self.id)
        return ended.stdout + ended.stderr

    def sh(self, command: str, user: str = "") -> str:
        """Run a shell command inside; returns what it printed."""
        options = ("--user", user) if user else ()
        return docker("exec", *options, self.id, "sh", "-c", command).stdout

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=10, trust_env=False)

    def answers(self, path: str) -> bool:
        """Whether a path is answered with 200 now."""
        try:
            return self.get(path).status_code == 200
        except (httpx.HTTPError, RuntimeError, IndexError):
            return False

    def is_ready(self) -> bool:
        return self.answers("/ready")

    def ready(self) -> Container:
        until(self.is_ready, self.logs)
        return self

    def exit_code(self, seconds: float = 60) -> int:
        """Its exit code, once it has ended by itself."""
        until(lambda: self.state["Status"] == "exited", self.logs, seconds)
        return int(self.state["ExitCode"])

    def stop(self) -> float:
        """`docker stop`, with all the time it wants. Returns the seconds it took."""
        began = time.monotonic()
        docker("stop", "--time", "30", self.id)
        return time.monotonic() - began

    def processes(self) -> list[list[str]]:
        """Pid, state and name of each process inside."""
        found = self.sh("for p in /proc/[0-9]*; do cat $p/stat 2>/dev/null; done")
        return [[line.split()[0], line.rpartition(")")[2].split()[0], line.split("(")[1].rpartition(")")[0]]
                for line in found.splitlines()]  # fmt: skip


def until(condition: Callable[[], bool], explain: Callable[[], str], seconds: float = 60) -> None:
    """Wait for a condition; `explain` tells what was there instead."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s:\n{explain()}")
        time.sleep(0.1)
