"""The model that is trained: built by its sizes, or a base with its own weights and LoRA beside them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.config import DataConfig, LoraPart, ModelConfig, TokenizerConfig, TrainingConfig
from training.data.tokenizers import CHATML, train_tokenizer
from training.models import LORA_TARGETS, ModelError, open_model, save_model

GUIDE = Path(__file__).resolve().parents[2] / "models" / "guide"
TINY = TrainingConfig(
    "test",
    data=DataConfig(block=32),
    tokenizer=TokenizerConfig(vocabulary=320),
    model=ModelConfig(hidden=32, layers=2, heads=2, feed_forward=64, context=64),
)
ARCHITECTURES = ("gpt2", "llama", "qwen3")


def of(architecture: Any, *, base: str = "", lora: LoraPart | None = None, **other: Any) -> TrainingConfig:
    return replace(TINY, model=replace(TINY.model, architecture=architecture, base=base), lora=lora, **other)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(["some text " * 20], 320, template=CHATML)


@pytest.fixture
def base(tokenizer: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A tiny model of an architecture, saved."""
    folder = tmp_path / "base"
    open_model(of(getattr(request, "param", "llama")), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_new_model_has_its_sizes_and_repeats_itself_by_seed(tokenizer: Any, architecture: str) -> None:
    model, again = (open_model(of(architecture), tokenizer) for _ in range(2))
    other = open_model(of(architecture, seed=1), tokenizer)
    assert model.config.model_type == architecture
    assert model.get_input_embeddings().weight.shape == (320, 32)
    assert model.config.num_hidden_layers == 2
    assert model.config.max_position_embeddings == 64
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    row = torch.arange(32)[None]
    assert model(input_ids=row, labels=row).loss.item() == pytest.approx(5.77, abs=0.5)


def trained(model: Any) -> Any:
    """The model after a step that changes what it says."""
    row = torch.arange(32)[None]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 1.0)
    for _ in range(2):
        model(input_ids=row, labels=row).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("base", ARCHITECTURES, indirect=True)
def test_lora_trains_little_and_is_saved_within_the_base(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = open_model(of("gpt2", base=str(base), lora=LoraPart(rank=4, dropout=0)), tokenizer)
    kind = model.config.model_type
    assert {name.split(".")[-1] for name, part in model.named_modules() if hasattr(part, "lora_A")} == set(
        LORA_TARGETS[kind]
    )
    assert all("lora_" in name for name, weight in model.named_parameters() if weight.requires_grad)
    row = torch.arange(32)[None]
    trained(model)
    with torch.no_grad():
        expected = model(row).logits
        with model.disable_adapter():
            assert not torch.allclose(model(row).logits, expected, atol=1e-3)
        save_model(model, tmp_path / "model")
        assert torch.equal(model(row).logits, expected), "training goes on with the same model"
        saved, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
        assert not any(report[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert torch.allclose(saved.eval()(row).logits, expected, atol=1e-4)
    assert not (tmp_path / "model" / "adapter_config.json").exists()


def test_the_built_in_guide_can_be_a_base(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(GUIDE)
    config = of("gpt2", base=str(GUIDE), lora=LoraPart(rank=4))
    model = open_model(config, tokenizer)
    assert model.config.model_type == "qwen3"
    save_model(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen3"


def test_a_base_without_lora_is_trained_as_a_whole(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    model = open_model(of("gpt2", base=str(base)), tokenizer)
    assert all(weight.requires_grad for weight in model.parameters())
    assert model.dtype == torch.float32
    save_model(model, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_targets_that_the_base_does_not_have_are_named(base: Path, tokenizer: Any) -> None:
    with pytest.raises(ModelError, match=r"LoRA cannot be put beside .* \(llama\) at c_attn: .*leave `lora.targets`"):
        open_model(of("gpt2", base=str(base), lora=LoraPart(targets=("c_attn",))), tokenizer)


def refused(base: Path, tokenizer: Any, said: str, *, reuse: str = "", block: int = 32) -> None:
    config = of("gpt2", base=str(base), tokenizer=TokenizerConfig(reuse, 320), data=DataConfig(block=block))
    with pytest.raises(ModelError, match=said):
        open_model(config, tokenizer)


def test_a_base_that_is_missing_or_no_model_is_named(tokenizer: Any, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", tokenizer, "nowhere is not there; see `model.base`")
    refused(tmp_path, tokenizer, r"cannot be used: there is no config\.json in ")


def test_a_base_that_is_cut_is_named(base: Path, tokenizer: Any) -> None:
    weights = base / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    refused(base, tokenizer, r"cannot be used: .*model\.safetensors is cut off: it has ")
    weights.unlink()
    refused(base, tokenizer, r"there are no weights in .*model\.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (base / "model-00001-of-00002.safetensors").write_bytes(content)
    refused(
        base, tokenizer, r"model-00002-of-00002\.safetensors is missing, which model\.safetensors\.index\.json names"
    )


def test_a_base_of_another_architecture_is_named(base: Path, tokenizer: Any) -> None:
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps(config | {"model_type": "qwen3"}), encoding="utf-8")
    refused(base, tokenizer, "lacks 4 weights, .*another architecture than config.json says")
    (base / "config.json").write_text(json.dumps(config | {"model_type": "whale"}), encoding="utf-8")
    refused(base, tokenizer, "is a 'whale', which is no causal language model")
    (base / "config.json").write_text(json.dumps(config | {"hidden_size": 64}), encoding="utf-8")
    refused(base, tokenizer, "they are of another model")
    (base / "config.json").write_text(json.dumps(config | {"intermediate_size": 8}), encoding="utf-8")
    refused(base, tokenizer, "cannot be loaded; its weights are cut or broken")


def test_a_tokenizer_of_another_vocabulary_is_named(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    guides = AutoTokenizer.from_pretrained(GUIDE)
    refused(base, guides, r"the tokenizer has 16,384 tokens, the base model .* 320", reuse=str(GUIDE))
    other = tmp_path / "other"
    train_tokenizer(["quite other words " * 20], 320, template=CHATML).save_pretrained(other)
    reused = AutoTokenizer.from_pretrained(other)
    refused(base, reused, "has another vocabulary than the base model", reuse=str(other))
    shutil.copytree(base, same := tmp_path / "same")
    assert open_model(of("gpt2", base=str(base), tokenizer=TokenizerConfig(str(same))), tokenizer)


def test_rows_longer_than_the_base_reads_are_refused(base: Path, tokenizer: Any) -> None:
    refused(base, tokenizer, "reads 64 tokens; set `data.block` to 64 at most", block=65)
