"""A config is read as checked values; what is wrong in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from training.config import CONFIGS, ConfigError, as_dict, load_config

_GOOD = {"data": {"train": ["texts"]}, "training": {"steps": 10}}


def _written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_each_config_of_the_repository_is_good(file: Path) -> None:
    assert load_config(file).name == file.stem


def test_a_config_is_found_by_its_name_alone() -> None:
    assert load_config("guide") == load_config(CONFIGS / "guide.yaml")


def test_a_config_written_out_reads_back_the_same(tmp_path: Path) -> None:
    config = load_config(
        _written(tmp_path, yaml.safe_dump(_GOOD | {"lora": {"rank": 4, "targets": ["q_proj"]}, "model": {"base": "b"}}))
    )

    again = load_config(_written(tmp_path, yaml.safe_dump(as_dict(config))))

    assert again == config


def test_a_folder_given_by_hand_takes_the_place_of_the_configs_own(tmp_path: Path) -> None:
    file = _written(tmp_path, yaml.safe_dump(_GOOD))

    assert load_config(file, train="elsewhere").data.train == ("elsewhere",)


def test_a_number_without_a_dot_is_a_number(tmp_path: Path) -> None:
    file = _written(tmp_path, "data: {train: a}\ntraining: {steps: 1, learning_rate: 1e-3}")

    assert load_config(file).training.learning_rate == 0.001


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trainig: {}", "there is no 'trainig'; the nearest known key is 'training'"),
        ("batch_tokens: 1", "there is no 'batch_tokens'; the nearest known key is 'training.batch_tokens'"),
        ("training: {seed: 1}", "there is no 'seed' in training; the nearest known key is 'seed'"),
        ("lora:", "lora is empty; write `lora: {}` for its defaults, or take it out"),
        ("training: {learning_rat: 1}", "no 'learning_rat' in training; the nearest known key is 'learning_rate'"),
        ("training: {steps: many}", "training.steps should be a whole number, not 'many'"),
        ("training: {steps: true}", "training.steps should be a whole number, not True"),
        ("training: {steps: 1.5}", "training.steps should be a whole number, not 1.5"),
        ("training: {learning_rate: fast}", "training.learning_rate should be a number, not 'fast'"),
        ("training: {learning_rate: .nan}", "training.learning_rate should be 1e-09 at least and 1 at most, not nan"),
        ("training: {epochs: .inf}", "training.epochs should be a number, not without end"),
        ("training: {keep: 0}", "training.keep should be 1 at least, not 0"),
        ("training: {optimizer: sgd}", "training.optimizer should be one of adamw, muon, not 'sgd'"),
        ("training: 3", "training should hold keys and values, not 3"),
        ("data: {train: 3}", "data.train should be a list of texts, not 3"),
        ("training: {steps: 1}", "data.train names no file or folder"),
        ("data: {train: a}", "training should have one of steps and epochs"),
        ("data: {train: a}\ntraining: {steps: 1, epochs: 1}", "training should have one of steps and epochs"),
        ("data: {train: a}\ntraining: {steps: 1}\nmodel: {hidden: 250}", "model.hidden (250) should be a multiple of"),
        ("data: {train: a}\ntraining: {steps: 1}\nmodel: {architecture: llama, hidden: 9, heads: 3}", "be even"),
        ("data: {source: guide}\ntraining: {steps: 1}", "model.architecture should be qwen3"),
        ("data: {source: guide}\ntraining: {steps: 1}\nmodel: {base: b, architecture: qwen3}", "without base or lora"),
        ("data: {train: a, block: 2048}\ntraining: {steps: 1}", "data.block (2048) should be model.context (1024)"),
        ("data: {train: a}\ntraining: {steps: 1}\nlora: {}", "lora needs model.base"),
        ("data: {train: a}\ntraining: {steps: 1, keep: 1, steps: 2}", "training.steps is there twice; take one out"),
        ("seed: 1\ndata: {train: a}\nseed: 2", "seed is there twice"),
        ("name: ../up", "name should be able to name a folder"),
        ("- 1", "is not a config"),
        ("a: [", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(_written(tmp_path, text))

    assert said in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_config_is_told_with_the_nearest_there_is() -> None:
    with pytest.raises(ConfigError, match=r"guid does not exist; did you mean guide\?"):
        load_config("guid")
