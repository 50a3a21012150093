"""entrypoint.sh, with a stand-in for Python that does what a test says, and Ollama elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from app.settings import ROOT, Settings


def started(folder: Path, python: str, **variables: str) -> subprocess.Popen[str]:
    """The script of a container.

    Args:
        folder: where it stands.
        python: lines of sh in the place of Python and the app.
        variables: of its environment.
    """
    shutil.copy(ROOT / "entrypoint.sh", folder)
    program = folder / "bin" / "python3"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{python}\n", encoding="ascii")
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "OLLAMA_HOST": "http://elsewhere", **variables}
    return subprocess.Popen(
        [str(folder / "entrypoint.sh")], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("form", ["json", "JSON", "text", None])
def test_what_the_container_says_has_the_same_form(tmp_path: Path, form: str | None) -> None:
    elsewhere = 'http://a"b\\c\td:11434'
    process = started(tmp_path, "exit 3", OLLAMA_HOST=elsewhere, **({} if form is None else {"LOG_FORMAT": form}))
    _, said = process.communicate(timeout=30)
    assert process.returncode == 3
    first, second = said.splitlines()
    if form in ("text", None):
        assert first.endswith(f" INFO START Ollama is at {elsewhere}, none is started here")
        assert second.endswith(" ERROR START the web app has ended with code 3")
        return
    found, broke = json.loads(first), json.loads(second)
    assert datetime.now(UTC) - datetime.fromisoformat(found.pop("timestamp")) < timedelta(minutes=1)
    assert found == {
        "level": "INFO",
        "category": "START",
        "request_id": "-",
        "message": f"Ollama is at {elsewhere}, none is started here".replace("\t", " "),
    }
    assert (broke["level"], broke["message"]) == ("ERROR", "the web app has ended with code 3")


def test_where_a_checkpoint_answers_no_ollama_is_started(tmp_path: Path) -> None:
    process = started(
        tmp_path, 'echo "host ${OLLAMA_HOST-none} checkpoint $CHECKPOINT"', CHECKPOINT="/data/m", OLLAMA_HOST=""
    )
    out, said = process.communicate(timeout=30)
    assert "CHECKPOINT answers, no Ollama is started" in said
    assert out.strip() == "host none checkpoint /data/m"


def test_the_app_has_its_time_for_replies_and_as_long_for_writes_that_wait(tmp_path: Path) -> None:
    """With a second for each: two, and what an end takes besides."""
    python = "trap 'sleep 4.5; echo whole; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    process = started(tmp_path, python, STOP_SECONDS="1")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "whole\n")


def test_compose_leaves_it_that_time() -> None:
    chat = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["chat"]
    assert float(chat["stop_grace_period"].rstrip("s")) >= 2 * Settings(_env_file=None).stop_seconds + 5
