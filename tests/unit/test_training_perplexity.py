"""Perplexity: each token guessed once, from enough before it, and told by token and by byte."""

import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.tiny_model import make_tiny_adapter, make_tiny_model
from training import evaluate
from training.config import as_dict
from training.data.documents import Document
from training.data.tokenizers import open_tokenizer
from training.evaluate import EvaluationError, documents_for, is_guide, load, measure, run_config
from training.models import open_model, save_model
from training.perplexity import perplexity

from .test_training_data import GUIDE, config_of, new_tokenizer


class Uniform:
    """A model that knows nothing, and keeps what it was shown."""

    device = torch.device("cpu")

    def __init__(self, vocabulary: int) -> None:
        self.config = SimpleNamespace(vocab_size=vocabulary)
        self.seen: list[list[int]] = []

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        self.seen += input_ids.tolist()
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, self.config.vocab_size))


@given(st.integers(2, 60), st.integers(2, 20))
def test_each_token_is_guessed_once_whatever_the_window(length: int, window: int) -> None:
    tokens = np.arange(length, dtype=np.int32)
    model = Uniform(100)
    found = perplexity(model, tokens, 10, window)
    assert found.tokens == length - 1
    assert found.per_token == pytest.approx(100, rel=1e-3)
    assert found.per_byte == pytest.approx(100 ** ((length - 1) / 10), rel=1e-3)
    assert {token for row in model.seen for token in row} == set(range(length))
    assert all(len(row) == min(window, length) for row in model.seen)


def test_a_large_vocabulary_has_fewer_windows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.arange(200, dtype=np.int32) % 50
    batches: list[int] = []

    def noted(found: list[Any]) -> list[Any]:
        batches.append(max(len(batch) for batch in found))
        return found

    whole = perplexity(Uniform(50), tokens, 10, 16, noted)
    monkeypatch.setattr("training.perplexity._LOGITS", 16 * 50 * 2)
    assert perplexity(Uniform(50), tokens, 10, 16, noted).nats == pytest.approx(whole.nats)
    assert batches == [8, 2]


def test_what_is_only_read_is_not_guessed() -> None:
    tokens = ~np.arange(40, dtype=np.int32)
    tokens[[5, 20, 39]] = [5, 20, 39]
    assert perplexity(Uniform(50), tokens, 3, 16).tokens == 3


def test_a_sliding_window_gives_what_one_reading_gives_where_it_all_fits() -> None:
    model = open_model(config_of(vocabulary=320), new_tokenizer()).eval()
    tokens = torch.randint(0, 320, (100,))
    once = model(input_ids=tokens[None], labels=tokens[None]).loss.item()
    assert perplexity(model, tokens.numpy().astype(np.int32), 1, 128).nats == pytest.approx(once * 99, rel=1e-4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with an untrained model."""
    folder = tmp_path_factory.mktemp("run")
    texts = folder / "texts"
    texts.mkdir()
    for number in range(20):
        (texts / f"{number}.txt").write_text(f"Text {number}: привет. " * 20, encoding="utf-8")
    config = config_of(texts)
    config = replace(config, training=replace(config.training, steps=1))
    (folder / "config.yaml").write_text(yaml.safe_dump(as_dict(config)), encoding="utf-8")
    tokenizer = open_tokenizer(config)
    save_model(open_model(config, tokenizer), folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def test_a_model_that_knows_nothing_wavers_among_all_tokens(run: Path) -> None:
    config = run_config(run / "model")
    found, window = measure(*load(run / "model"), documents_for(config, None, guide=False), 64)
    assert found.per_token == pytest.approx(320, rel=0.3)
    assert found.text_bytes == sum(len(d.text.encode()) for d in documents_for(config, None, guide=False))
    assert window == 64
    assert str(found).startswith("perplexity ")


def test_an_adapter_is_measured_with_its_base_wherever_that_is_seen_from_it(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    adapter = make_tiny_adapter(tmp_path / "lora", base)
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8").replace(str(base), "../base"), encoding="utf-8")
    documents = [Document(text="What is measured by. " * 20)]
    (with_adapter, _), (alone, _) = (measure(*load(folder), documents) for folder in (adapter, base))
    assert with_adapter.tokens == alone.tokens
    assert with_adapter.nats != alone.nats


def test_it_is_measured_by_other_text_if_that_is_given(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Other text.", encoding="utf-8")
    (document,) = documents_for(None, tmp_path, guide=False)
    assert document == Document(text="Other text.")


def test_the_command_tells_the_perplexity_of_a_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", str(run)])
    evaluate.main()
    said = capsys.readouterr().out
    assert "by what the run has held out: perplexity" in said
    assert "window 64" in said


def test_without_text_to_measure_by_it_says_what_to_give(run: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="give held-out text by DATA=folder"):
        documents_for(None, None, guide=False)
    config = run_config(run / "model")
    assert config is not None
    with pytest.raises(EvaluationError, match="the run has held nothing out"):
        documents_for(replace(config, data=replace(config.data, held_out_share=0)), None, guide=False)


@pytest.mark.parametrize(("given", "said"), [("nowhere", "eval: there is no folder"), ("", "eval: .*DATA=folder")])
def test_the_command_says_what_is_wrong(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    shutil.copytree(run / "model", tmp_path / "alone")
    monkeypatch.setattr(sys, "argv", ["evaluate", str(tmp_path / (given or "alone"))])
    with pytest.raises(SystemExit, match=said):
        evaluate.main()


def test_of_the_guide_its_evaluation_is_what_it_is_measured_by() -> None:
    assert is_guide(GUIDE, None)
    documents = list(documents_for(None, None, guide=True))
    assert len(documents) > 300
    found, _ = measure(*load(GUIDE), documents[:40])
    assert 1 < found.per_token < 1.5
    assert math.isfinite(found.per_byte)
