"""Commands beside a running server have its settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.running import take_over


def process(proc: Path, pid: int, command: str, parent: int, cwd: Path, **environment: str) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_text("".join(f"{word}\0" for word in command.split()), encoding="utf-8")
    (folder / "environ").write_text("".join(f"{k}={v}\0" for k, v in environment.items()), encoding="utf-8")
    (folder / "stat").write_text(f"{pid} (py) thon) S {parent} 1 1", encoding="utf-8")
    (folder / "cwd").symlink_to(cwd)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    found = tmp_path / "proc"
    process(found, 1, "bash /app/entrypoint.sh", 0, tmp_path, DATA_DIR="/data", PORT="8000")
    process(found, 7, "python3 -m app", 1, tmp_path, DATA_DIR="/tmp/x", PORT="8000", NUM_CTX="2048", OTHER="1")
    process(found, 8, "python3 -m app.doctor", 1, tmp_path, NUM_CTX="1")
    return found


def test_what_the_start_script_found_out_is_taken_over(proc: Path, tmp_path: Path) -> None:
    environment = {"DATA_DIR": "/data", "PORT": "8000"}
    assert take_over(environment, proc, tmp_path) == 7
    assert environment == {"DATA_DIR": "/tmp/x", "PORT": "8000", "NUM_CTX": "2048"}


def test_what_the_command_was_given_itself_counts(proc: Path, tmp_path: Path) -> None:
    environment = {"DATA_DIR": "/other", "NUM_CTX": "1024"}
    take_over(environment, proc, tmp_path)
    assert (environment["DATA_DIR"], environment["NUM_CTX"]) == ("/other", "1024")


def test_a_server_in_another_folder_is_another_one(proc: Path, tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    assert take_over(environment, proc, tmp_path / "elsewhere") is None
    assert environment == {}


def test_of_several_the_one_on_the_port_that_is_meant_counts(proc: Path, tmp_path: Path) -> None:
    process(proc, 9, "python3 -m app", 1, tmp_path, PORT="9000", NUM_CTX="512")
    environment: dict[str, str] = {}
    assert take_over(environment, proc, tmp_path) is None
    environment = {"PORT": "9000"}
    assert take_over(environment, proc, tmp_path) == 9
    assert environment["NUM_CTX"] == "512"


def test_without_proc_nothing_is_changed(tmp_path: Path) -> None:
    environment = {"PORT": "1"}
    assert take_over(environment, tmp_path / "nothing", tmp_path) is None
    assert environment == {"PORT": "1"}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells of processes so")
def test_a_real_process_is_found(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('up', flush=True); input()", encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "NUM_CTX": "777"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        server.stdout.readline()
        environment: dict[str, str] = {}
        assert take_over(environment, root=tmp_path) == server.pid
        assert environment == {"NUM_CTX": "777"}
        server.communicate(b"\n")
