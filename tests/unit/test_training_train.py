"""Training in small: it learns, it repeats itself by seed, and its folder loads as any other model's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.train import Recipe, rate, save, train

TINY = Recipe(
    steps=20,
    hidden=32,
    layers=1,
    heads=2,
    feed_forward=64,
    vocabulary=400,
    row=128,
    long_row=256,
    batch_tokens=512,
    tokenizer_conversations=100,
)


def test_twenty_steps_lower_the_loss_and_the_same_seed_repeats_them() -> None:
    _, _, losses = train(TINY, quiet=True)
    model, _, again = train(TINY, quiet=True)
    assert losses == again
    assert sum(losses[-3:]) < sum(losses[:3])
    assert model.config.model_type == "qwen3"


def test_the_rate_rises_then_falls() -> None:
    rates = [rate(TINY, step / 100) for step in range(101)]
    peak = rates.index(max(rates))
    assert rates[0] == 0
    assert max(rates) == pytest.approx(TINY.learning_rate)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(TINY.learning_rate / 20)


def test_a_saved_model_loads_in_sixteen_bits_and_ends_with_the_end_of_a_turn(tmp_path: Path) -> None:
    model, tokenizer, _ = train(replace(TINY, steps=1), quiet=True)
    save(model, tokenizer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded.dtype == torch.float16
    assert loaded.config.max_position_embeddings == 4096
    assert again.eos_token == "<|im_end|>"
    assert loaded.generation_config.eos_token_id == again.eos_token_id
    assert again.chat_template == tokenizer.chat_template
