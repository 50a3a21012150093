"""Training by its command: from a folder of texts to a model, through a kill; and bad input told in one line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainings import steps_of
from training.config import CONFIGS, load_config
from training.loss_file import LossFile
from training.runs import newest_run
from training.train import main

from .training_runs import trained


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for part in range(20):
        lines = (
            f"Chapter {part}, line {line}: {line} birds and {part} trees make {line + part}." for line in range(40)
        )
        (folder / f"{part}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """`baseline`, but small."""
    read = yaml.safe_load((CONFIGS / "baseline.yaml").read_text(encoding="utf-8"))
    read["data"]["block"] = 64
    read["tokenizer"]["vocabulary"] = 400
    read["model"] |= {"hidden": 32, "layers": 1, "heads": 2, "feed_forward": 64, "context": 64}
    read["training"] |= {"steps": 60, "batch_tokens": 256, "evaluate_every": 20, "save_every": 10, "patience": 0}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(read | {"name": "baseline"}), encoding="utf-8")
    return file


def command(config: Path, texts: Path, runs: Path) -> list[str]:
    return [sys.executable, "-m", "training.train", str(config), "--data", str(texts), "--runs", str(runs)]


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something outside shows, which the process is not asked for."""
    while not reached():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)


def test_a_killed_training_goes_on_to_the_losses_of_an_unbroken_one(tmp_path: Path, config: Path, texts: Path) -> None:
    unbroken, _ = trained(load_config(config, str(texts)), tmp_path / "unbroken")
    runs = tmp_path / "killed"
    with subprocess.Popen(command(config, texts, runs), text=True, stderr=subprocess.PIPE) as process:
        wait_for(lambda: steps_of(runs) >= 25, process)
        process.send_signal(signal.SIGKILL)

    resumed = subprocess.run(command(config, texts, runs), capture_output=True, text=True, check=False)

    assert resumed.returncode == 0, resumed.stderr
    assert "It goes on after step " in resumed.stdout
    assert "held out; " in resumed.stdout
    run = newest_run("baseline", runs)
    assert run is not None
    rows, wanted = LossFile.read(run.folder), LossFile.read(unbroken.folder)
    assert len(rows) == len(wanted) == 60
    for row, other in zip(rows, wanted, strict=True):
        assert (row["step"], row["tokens"]) == (other["step"], other["tokens"])
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), abs=1e-3)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) - 0.5
    AutoTokenizer.from_pretrained(run.model, local_files_only=True)
    assert AutoModelForCausalLM.from_pretrained(run.model, local_files_only=True).config.model_type == "gpt2"
    assert not run.tokens.exists(), "what only training needs goes with it"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_training_asked_to_stop_saves_a_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, config: Path, texts: Path, number: signal.Signals
) -> None:
    text = config.read_text(encoding="utf-8").replace("save_every: 10", "save_every: 1000")
    config.write_text(text.replace("steps: 60", "steps: 100000"), encoding="utf-8")
    with subprocess.Popen(
        command(config, texts, tmp_path), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_for(lambda: steps_of(tmp_path) >= 3, process)
        process.send_signal(number)
        said, problems = process.communicate()

    run = newest_run("baseline", tmp_path)
    assert process.returncode == 128 + number, problems
    assert "the same command goes on from there" in said
    assert run is not None
    assert run.last_checkpoint() == run.checkpoints / f"checkpoint-{len(LossFile.read(run.folder))}"
    assert not run.finished


def test_a_missing_config_a_wrong_key_and_an_empty_corpus_are_told_in_one_line(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train", *words, "--runs", str(tmp_path / "runs")])
        with pytest.raises(SystemExit) as ended:
            main()
        message = str(ended.value.code)
        assert message.startswith("train: ")
        assert "\n" not in message
        return message

    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "a.txt").touch()
    assert "nothing.yaml does not exist" in said(str(tmp_path / "nothing.yaml"))
    assert "gone" in said(str(config), "--data", str(tmp_path / "gone"))
    assert "empty" in said(str(config), "--data", str(empty))
    config.write_text(config.read_text(encoding="utf-8") + "sed: 1\n", encoding="utf-8")
    assert "the nearest known key is 'seed'" in said(str(config))
    assert not list((tmp_path / "runs").glob("*/*")), "what never began is in nobody's way"
