"""From texts to a chat in two commands: `make train-baseline`, killed on the way, and `make serve-trained`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import openai
import pytest
import yaml
from playwright.sync_api import expect

from app.settings import ROOT
from tests.browser import PATIENCE, Chat
from tests.site import Program, clean_environment, server
from tests.trainings import steps_of
from training.config import CONFIGS
from training.loss_file import LossFile
from training.runs import newest_run

pytestmark = [
    pytest.mark.skipif(
        not (ROOT / ".venv" / ".installed-requirements-train.txt").exists(), reason="make test makes .venv"
    ),
    pytest.mark.timeout(600),
]

STEPS = 120
Visit = Callable[..., Chat]


def make(target: str, **variables: object) -> list[str]:
    return ["make", "-C", str(ROOT), target, *(f"{name}={value}" for name, value in variables.items())]


def killed_at(step: int, command: list[str], runs: Path) -> None:
    """Run a command and all that it starts until a training has come to a step; then SIGKILL."""
    with subprocess.Popen(command, env=clean_environment(), start_new_session=True) as process:
        try:
            while steps_of(runs) < step:
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a baseline, smaller than the real one, that was killed on its way and went on."""
    folder = tmp_path_factory.mktemp("training")
    texts, runs, config = folder / "texts", folder / "runs", folder / "baseline.yaml"
    texts.mkdir()
    for part in range(20):
        lines = (f"In year {part} ship {line} carried {line + part} barrels of salt." for line in range(60))
        (texts / f"{part}.txt").write_text("\n".join(lines), encoding="utf-8")
    known = yaml.safe_load((CONFIGS / "baseline.yaml").read_text(encoding="utf-8"))
    known["data"]["block"] = known["model"]["context"] = 128
    known["tokenizer"]["vocabulary"] = 400
    known["model"] |= {"hidden": 64, "layers": 2, "heads": 2, "feed_forward": 256}
    known["training"] |= {"steps": STEPS, "batch_tokens": 512, "evaluate_every": 20, "save_every": 10}
    config.write_text(yaml.safe_dump(known), encoding="utf-8")
    command = make("train-baseline", CONFIG=config, DATA=texts, RUNS=runs)

    killed_at(STEPS // 3, command, runs)
    resumed = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)

    assert resumed.returncode == 0, resumed.stderr
    assert "It goes on after step " in resumed.stdout
    found = newest_run("baseline", runs)
    assert found is not None
    return found.folder


@pytest.fixture(scope="module")
def site(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with server(
        tmp_path_factory.mktemp("served"), command=make("serve-trained", CHECKPOINT=run), MODEL="guide"
    ) as program:
        yield program


def test_each_step_was_trained_once_and_the_model_learnt(run: Path) -> None:
    rows = LossFile.read(run)
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    first, last = (sum(float(row["loss"]) for row in some) / 10 for some in (rows[:10], rows[-10:]))
    assert last < first - 1


def test_it_answers_on_the_page(site: Program, visit: Visit) -> None:
    chat = visit(site)
    expect(chat.page.get_by_test_id("status-banner")).to_contain_text("baseline answers", timeout=PATIENCE)
    assert chat.ask("In year 7 ship")
    assert "baseline" in chat.status("finished").inner_text()


def test_it_answers_programs_in_pieces(site: Program) -> None:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="any", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="baseline", messages=[{"role": "user", "content": "In year 7 ship"}], max_tokens=60, stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert len(list(filter(None, pieces))) > 1
