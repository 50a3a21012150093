"""What a model's folder says about it, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.engines.local_files import ModelFiles, read_files


def weights(**shapes: list[int]) -> bytes:
    """A safetensors file of which only the header is there."""
    tensors = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    return len(header).to_bytes(8, "little") + header


def model(folder: Path, config: object, **files: bytes) -> ModelFiles:
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return read_files(folder)


def test_family_context_and_size_come_from_the_files(tmp_path: Path) -> None:
    config = {"model_type": "qwen3", "max_position_embeddings": 40960}
    content = weights(a=[2, 3])
    files = model(tmp_path, config, model__safetensors=content)
    assert files == ModelFiles(size=len(content), parameters=6, family="qwen3", context_length=40960)


def test_a_model_that_also_sees_describes_its_text_part_inside(tmp_path: Path) -> None:
    config = {"model_type": "gemma3", "text_config": {"max_position_embeddings": 8192, "tie_word_embeddings": True}}
    files = model(tmp_path, config, model__safetensors=weights(a=[5], **{"lm_head.weight": [7]}))
    assert (files.context_length, files.parameters) == (8192, 5)


def test_parameters_of_all_parts_are_added_and_a_tied_output_layer_counts_once(tmp_path: Path) -> None:
    parts = {"a__safetensors": weights(x=[10, 10]), "b__safetensors": weights(**{"lm_head.weight": [50]})}
    assert model(tmp_path, {}, **parts).parameters == 150
    assert model(tmp_path, {"tie_word_embeddings": True}, **parts).parameters == 100


def test_a_second_copy_of_the_weights_beside_them_is_not_counted(tmp_path: Path) -> None:
    content = weights(a=[2, 3])
    files = model(tmp_path, {}, model__safetensors=content, raw__safetensors=weights(a=[2, 3]))
    assert (files.size, files.parameters) == (len(content), 6)


@pytest.mark.parametrize(
    ("parameters", "label"),
    [(595_776_512, "0.6B"), (3_461_000, "3.5M"), (8_190_735_360, "8.2B"), (42_320, "42K"), (None, "")],
)
def test_parameters_are_said_as_people_do(parameters: int | None, label: str) -> None:
    assert ModelFiles(parameters=parameters).parameters_label == label


def test_packed_weights_do_not_tell_their_parameters(tmp_path: Path) -> None:
    files = model(tmp_path, {"quantization_config": {"quant_method": "gptq"}}, model__safetensors=weights(a=[9]))
    assert (files.quantization, files.parameters) == ("gptq", None)


@pytest.mark.parametrize("file", ["chat_template__jinja", "tokenizer_config__json"])
def test_a_template_that_knows_enable_thinking_can_think(tmp_path: Path, file: str) -> None:
    assert model(tmp_path, {}, **{file: b"{% if enable_thinking %}"}).can_think
    assert not model(tmp_path, {}, **{file: b"{{ messages }}"}).can_think


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 9, b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 8 + b"{}", b"\x09\0\0\0\0\0\0\0{"]
)
def test_weights_that_are_none_tell_nothing(tmp_path: Path, content: bytes) -> None:
    assert model(tmp_path, {}, model__safetensors=content).parameters is None


@pytest.mark.parametrize("config", [[], "x", {"max_position_embeddings": "many", "quantization_config": 1}])
def test_a_configuration_that_is_none_tells_nothing(tmp_path: Path, config: object) -> None:
    files = model(tmp_path, config)
    assert (files.context_length, files.quantization, files.size) == (None, "", 0)


def test_a_folder_that_is_not_there_tells_nothing(tmp_path: Path) -> None:
    assert read_files(tmp_path / "none") == ModelFiles()
