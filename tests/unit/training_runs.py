"""Trainings of seconds, for the tests."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from training.config import DataConfig, LoopConfig, ModelConfig, TokenizerConfig, TrainingConfig
from training.guide.source import guide_model, guide_tokenizer
from training.runs import Run, open_run
from training.train import Outcome, train

TINY_GUIDE = TrainingConfig(
    name="tiny-guide",
    data=DataConfig(source="guide", block=128),
    tokenizer=TokenizerConfig(vocabulary=400),
    model=ModelConfig(architecture="qwen3", hidden=32, layers=1, heads=2, feed_forward=64, context=4096, dropout=0.2),
    training=LoopConfig(steps=8, batch_tokens=512, learning_rate=2.5e-3, device="cpu", evaluate_every=4, save_every=4),
)


def tiny_model() -> tuple[Any, Any]:
    """A model of the guide's kind with random weights, and its tokenizer."""
    tokenizer = _tokenizer()
    return guide_model(TINY_GUIDE, tokenizer), tokenizer


def with_loop(config: TrainingConfig, **changes: Any) -> TrainingConfig:
    return replace(config, training=replace(config.training, **changes))


def trained(config: TrainingConfig, runs: Path, resume: str = "") -> tuple[Run, Outcome]:
    """Train, or go on. The guide's tokenizer is one of few conversations."""
    run = open_run(config, resume, runs)
    if config.data.source == "guide" and not run.tokenizer.is_dir():
        _tokenizer().save_pretrained(run.tokenizer)
    return _trained(config, run)


def trained_in_full(config: TrainingConfig, runs: Path) -> tuple[Run, Outcome]:
    """Train with the config's own tokenizer."""
    return _trained(config, open_run(config, "no", runs))


def _trained(config: TrainingConfig, run: Run) -> tuple[Run, Outcome]:
    try:
        return run, train(config, run, quiet=True)
    finally:
        run.let_go()


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    return guide_tokenizer(TINY_GUIDE, conversations=100)
