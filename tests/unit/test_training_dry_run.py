"""A dry run: what a training would take, and two steps of it in small, on any machine."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from training import dry_run as module
from training import train as train_module
from training.checkpoint import find_model
from training.config import ConfigError, TokenizerConfig, TrainingConfig, load_config
from training.dry_run import dry_run, estimate, tiny
from training.evaluate import documents_for, load, measure
from training.guide.tokenizer import VOCABULARY
from training.models import ModelError
from training.runs import open_run
from training.train import Outcome, train

from .test_training_data import GUIDE, new_tokenizer


def lora(base: str = str(GUIDE)) -> TrainingConfig:
    config = load_config("qwen-lora")
    return replace(config, model=replace(config.model, base=base))


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    file = tmp_path / "chats.jsonl"
    lines = [{"prompt": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(200)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def test_the_large_recipe_is_a_model_of_a_billion_that_fits_on_one_card() -> None:
    found = estimate(load_config("gpt2-1b-russian"), new_tokenizer())
    assert 1.0e9 < found.parameters < 1.35e9
    assert found.trained == found.parameters
    assert found.state_bytes == 16 * found.parameters
    assert found.state_bytes + found.work_bytes < 80e9
    assert found.tokens == pytest.approx(20 * found.parameters, rel=0.05)
    assert "days of one A100" in str(found)


def test_a_tokenizer_to_reuse_counts_with_its_own_vocabulary(chats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(module, "estimate", lambda config, tokenizer: counted.append(len(tokenizer)))
    monkeypatch.setattr(train_module, "train", lambda config, run, quiet: Outcome(2, 2, None, None, False, None))
    dry_run(replace(load_config("baseline", str(chats)), tokenizer=TokenizerConfig(reuse=str(GUIDE))))
    assert counted == [VOCABULARY]


def test_less_is_trained_with_lora_and_less_memory_taken_with_recompute() -> None:
    config, tokenizer = lora(), new_tokenizer()
    small = estimate(config, tokenizer)
    weights = AutoModelForCausalLM.from_pretrained(GUIDE).num_parameters()
    assert small.parameters - small.trained == weights
    assert small.trained < weights / 10
    again = estimate(replace(config, training=replace(config.training, recompute=True)), tokenizer)
    assert again.work_bytes < small.work_bytes
    assert again.state_bytes == small.state_bytes


def test_the_large_recipe_trains_two_steps_in_small_before_its_corpus_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = dry_run(load_config("gpt2-1b-russian"))
    assert "data/russian is not there yet" in said
    assert "2 steps at width 64: held-out loss" in said
    assert list(tmp_path.iterdir()) == []


def test_lora_is_tried_on_a_small_base_of_the_same_architecture(chats: Path) -> None:
    config = lora()
    said = dry_run(replace(config, data=replace(config.data, train=(str(chats),))))
    assert "of them trained" in said
    assert "corpus: 1 files" in said
    assert "2 steps" in said


def test_a_broken_corpus_shows_in_the_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_bytes("Привет".encode("cp1251"))
    monkeypatch.setattr(sys, "argv", ["dry_run", "baseline", "--data", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"train: .*a\.txt is not UTF-8 at byte 0"):
        module.main()


def test_what_has_no_dry_run_is_said() -> None:
    with pytest.raises(ConfigError, match="the guide is small"):
        dry_run(load_config("guide"))
    with pytest.raises(ModelError, match=r"the configuration of the base model .*nowhere cannot be had"):
        estimate(lora("./nowhere"), new_tokenizer())


def test_a_trained_lora_is_a_model_of_its_own_and_its_checkpoints_are_adapters(chats: Path, tmp_path: Path) -> None:
    config = lora()
    small = tiny(replace(config, data=replace(config.data, train=(str(chats),))), tmp_path)
    run = open_run(small, "no", tmp_path / "runs")
    train(small, run, quiet=True)
    checkpoint = run.last_checkpoint()
    assert checkpoint is not None
    assert (checkpoint / "adapter_config.json").is_file()
    assert not (run.model / "adapter_config.json").exists()
    both = [
        measure(*load(find_model(folder)), documents_for(small, None, guide=False), 64)[0]
        for folder in (run.folder, checkpoint)
    ]
    assert both[0].nats == pytest.approx(both[1].nats, rel=1e-3)
