"""The guide as GGUF: what llama.cpp and Ollama find in the file."""

import json
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFReader
from safetensors.torch import load_file

from training.export_gguf import ExportError, export

from .training_runs import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    model, tokenizer = tiny_model()
    model.half().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_the_file_holds_every_weight_with_norms_in_32_bits(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "tiny.gguf")
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "tiny.gguf").tensors}
    assert len(tensors) == len(load_file(folder / "model.safetensors"))
    for name, tensor in tensors.items():
        expected = GGMLQuantizationType.F32 if "norm" in name else GGMLQuantizationType.F16
        assert tensor.tensor_type == expected, name


def test_the_file_names_architecture_sizes_tokenizer_and_template(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "tiny.gguf")
    reader = GGUFReader(tmp_path / "tiny.gguf")
    fields = {
        key: field.contents()
        for key in (
            "general.architecture",
            "qwen3.context_length",
            "qwen3.block_count",
            "qwen3.embedding_length",
            "qwen3.attention.head_count",
            "tokenizer.ggml.model",
            "tokenizer.ggml.pre",
            "tokenizer.chat_template",
        )
        if (field := reader.get_field(key)) is not None
    }
    assert fields == {
        "general.architecture": "qwen3",
        "qwen3.context_length": 4096,
        "qwen3.block_count": 1,
        "qwen3.embedding_length": 32,
        "qwen3.attention.head_count": 2,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.chat_template": (folder / "chat_template.jinja").read_text(encoding="utf-8"),
    }
    tokens = reader.get_field("tokenizer.ggml.tokens")
    end = reader.get_field("tokenizer.ggml.eos_token_id")
    assert tokens is not None
    assert end is not None
    assert tokens.contents()[end.contents()] == "<|im_end|>"


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}), encoding="utf-8")
    with pytest.raises(ExportError, match="is a 'mamba'; only qwen3"):
        export(tmp_path, tmp_path / "out.gguf")


def test_a_folder_without_config_or_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"config\.json cannot be read"):
        export(tmp_path, tmp_path / "out.gguf")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ExportError, match="has no weights"):
        export(tmp_path, tmp_path / "out.gguf")
