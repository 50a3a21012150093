"""Which model is found in a folder that is to be served or exported, and what is said of one that is broken."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from app.engines.checkpoint import name_of, open_checkpoint
from app.engines.checkpoint_files import CheckpointError
from tests.fakes.tiny_model import PLAIN, make_tiny_adapter, make_tiny_gpt2, make_tiny_model
from training.checkpoint import find_model

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed: make install-local")
with_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed: make install-local")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GPT-2."""
    return make_tiny_gpt2(tmp_path_factory.mktemp("made") / "gpt2")


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may break."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def said_of(path: Path) -> str:
    """What is wrong with a folder, in one line."""
    with pytest.raises(CheckpointError) as raised:
        find_model(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def shard(model: Path) -> Path:
    """Put the weights into a file that an index names; returns that file."""
    weights = (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"transformer.wte.weight": weights.name}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return weights


def test_a_models_folder_is_taken_as_it_is(model: Path) -> None:
    assert find_model(model) == model
    shard(model)
    assert find_model(str(model)) == model


def test_the_built_in_guide_is_a_whole_model() -> None:
    guide = Path("models/guide")
    assert open_checkpoint(guide).has_template
    assert open_checkpoint(guide).name == "guide-trained"


def run(runs: Path, model: Path, time: str, *folders: str) -> Path:
    """A run of the training with a model in each of `folders`."""
    for folder in folders:
        shutil.copytree(model, runs / time / folder)
    return runs / time


def test_of_a_run_the_model_is_taken_or_its_newest_whole_checkpoint(model: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "tales"
    new = run(runs, model, "2026-11-21_10-00-00", "checkpoints/checkpoint-90", "checkpoints/checkpoint-100")
    assert find_model(new) == find_model(new / "checkpoints") == new / "checkpoints" / "checkpoint-100"
    cut(new / "checkpoints" / "checkpoint-100" / "model.safetensors", 1000)
    assert find_model(new) == new / "checkpoints" / "checkpoint-90"
    shutil.copytree(model, new / "model")
    assert find_model(new) == new / "model"


def test_of_several_runs_the_newest_is_taken_that_has_a_model(model: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs" / "tales"
    old = run(runs, model, "2026-11-21_10-00-00", "model")
    new = run(runs, model, "2026-11-21_11-00-00", "checkpoints/checkpoint-5")
    assert find_model(runs) == new / "checkpoints" / "checkpoint-5"
    (new / "checkpoints" / "checkpoint-5" / "config.json").unlink()
    assert find_model(runs) == old / "model"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("runs/tales/2026-11-21_10-00-00/model", "tales"),
        ("runs/tales/20261121-100000/checkpoints/checkpoint-90", "tales-90"),
        ("my/gpt2", "gpt2"),
        ("my/model", "my"),
        ("runs/guide/2026-11-21_10-00-00/model", "guide-trained"),
    ],
)
def test_a_model_is_called_as_its_run(folder: str, name: str, tmp_path: Path) -> None:
    assert name_of(tmp_path / folder) == name


def test_a_run_that_was_moved_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "20261121T100000.000000Z").mkdir()
    (tmp_path / "20261121T100000.000000Z" / "config.yaml").write_text("name: tales\nseed: 1\n")
    assert name_of(tmp_path / "20261121T100000.000000Z" / "model") == "tales"


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda m: (m / "config.json").unlink(), "there is no config.json"),
    "a config that is cut off": (lambda m: cut(m / "config.json", 30), "config.json cannot be read"),
    "a config without a family": (lambda m: change(m / "config.json", model_type=None), "names no model_type"),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), "there is no tokenizer"),
    "a tokenizer that is cut off": (lambda m: cut(m / "tokenizer.json", 99), "tokenizer.json cannot be read"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "there are no weights"),
    "empty weights": (lambda m: cut(m / "model.safetensors", 0), "is no file of weights"),
    "weights cut in their header": (lambda m: cut(m / "model.safetensors", 100), "is cut off"),
    "weights cut in half": (lambda m: cut(m / "model.safetensors", 40_000), "is cut off: it has 40,000 of"),
    "weights that are text": (lambda m: (m / "model.safetensors").write_text("<html>" * 99), "is no file of weights"),
    "a shard that is missing": (lambda m: shard(m).unlink(), "00001.safetensors is missing"),
    "a shard that is cut off": (lambda m: cut(shard(m), 40_000), "is cut off"),
    "another width": (lambda m: change(m / "config.json", n_embd=64), "an embedding of 258 x 32"),
    "another depth": (lambda m: change(m / "config.json", n_layer=3), "2 layers, config.json says 3"),
    "another family": (lambda m: change(m / "config.json", model_type="llama"), "no embed_tokens.weight"),
    "no model of text": (lambda m: change(m / "config.json", architectures=["BertForMaskedLM"]), "BertForMaskedLM"),
    "old weights that are cut off": (
        lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"),
        "pytorch_model.bin is cut off",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_of_a_broken_checkpoint_is_said_what_is_wrong_and_what_to_do(case: str, model: Path) -> None:
    break_it, words = BROKEN[case]
    break_it(model)
    said = said_of(model)
    assert words in said
    assert any(advice in said for advice in ("Copy", "Name ", "Put ", "Take "))


def test_a_folder_without_a_model_is_told_apart_from_one_that_is_not_there(tmp_path: Path, model: Path) -> None:
    assert "make train-baseline" in said_of(tmp_path / "none")
    (tmp_path / "bare").mkdir()
    assert "is empty" in said_of(tmp_path / "bare")
    (tmp_path / "bare" / "notes.txt").write_text("x")
    assert "there is no model" in said_of(tmp_path / "bare")
    assert "is a file" in said_of(model / "config.json")


def test_a_folder_that_may_not_be_read_is_told_as_such(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    # Root, who runs some of these tests, may read anything.
    monkeypatch.setattr(Path, "open", refuse)
    assert f"cannot be read (Permission denied). Give the user that this runs as ({os.getuid()})" in said_of(model)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors.index.json"])
def test_a_file_that_may_not_be_read_is_not_said_to_be_damaged(
    name: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text
    (model / name).touch()

    def refuse(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert f"{name} cannot be read (Permission denied)" in said_of(model)


def test_weights_of_an_old_torch_are_left_to_loading(model: Path) -> None:
    import torch

    (model / "model.safetensors").unlink()
    torch.save({"a": torch.ones(2)}, model / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert find_model(model) == model


@with_peft
def test_an_adapter_needs_its_base(made: Path, tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base", template=PLAIN)
    adapter = make_tiny_adapter(tmp_path / "lora", base)
    checkpoint = open_checkpoint(adapter)
    assert (checkpoint.folder, checkpoint.base, checkpoint.tokenizer) == (adapter, base, base)
    assert checkpoint.has_template
    config = adapter / "adapter_config.json"
    change(config, base_model_name_or_path="../base")
    assert find_model(adapter) == adapter
    change(config, base_model_name_or_path="nobody/nothing")
    assert "its base nobody/nothing is not on this machine" in said_of(adapter)
    change(config, base_model_name_or_path=None)
    assert "does not name its base" in said_of(adapter)
    change(config, base_model_name_or_path=str(made), r=16)
    assert "are of rank 4" in said_of(adapter)
    change(config, r=4)
    cut(adapter / "adapter_model.safetensors", 2000)
    assert "is cut off" in said_of(adapter)
