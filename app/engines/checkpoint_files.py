"""Whether a checkpoint's files are whole and belong together, read without torch."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from app.engines.local_files import CONFIG, INDEX, MAX_HEADER, VOCABULARIES, header, readable_json

ADAPTER: Final = "adapter_config.json"
WEIGHTS: Final = "model.safetensors"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
# What torch writes itself; transformers takes it where there are no safetensors.
_OLD_WEIGHTS: Final = {WEIGHTS: "pytorch_model.bin", ADAPTER_WEIGHTS: "adapter_model.bin"}
# Models that continue a text are called so in `architectures`.
_CAUSAL: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_EMBEDDING: Final = re.compile(r"(?:^|\.)(?:wte|embed_tokens|word_embeddings|embed_in)\.weight$")
# Without it the weights are none of that family.
_FIRST: Final = {
    "gpt2": "wte.weight",
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3"), "embed_tokens.weight"
    ),
}
_LAYER: Final = re.compile(r"(?:^|\.)(?:h|layers|blocks)\.(\d+)\.")
# What config.json calls the same in different families.
_LAYERS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model", "n_embed")


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message says what is wrong with it and what to do."""


def check_model(folder: Path) -> None:
    """Check a folder with a whole model in it.

    Raises:
        CheckpointError: a file is missing, cut off, or does not belong to the others.
    """
    check_weights(folder)
    check_tokenizer(folder)


def check_weights(folder: Path) -> str:
    """Check a model's config.json and its weights, without its tokenizer.

    Returns:
        Its `model_type`.

    Raises:
        CheckpointError: a file is missing, cut off, or does not belong to the others.
    """
    config = _config(folder / CONFIG)
    _check_architecture(folder, config)
    _check_shapes(folder, config, _shapes(folder, WEIGHTS))
    return str(config["model_type"])


def check_adapter(folder: Path) -> None:
    """Check a folder with a LoRA adapter in it, its base left aside.

    Raises:
        CheckpointError: a file is missing or cut off.
    """
    config = _config(folder / ADAPTER)
    shapes = _shapes(folder, ADAPTER_WEIGHTS)
    rank = config.get("r")
    ranks = {shape[0] for name, shape in shapes.items() if name.endswith("lora_A.weight") and shape}
    if isinstance(rank, int) and not config.get("rank_pattern") and ranks - {rank}:
        raise CheckpointError(
            f"the weights in {folder} are of rank {min(ranks - {rank})}, {ADAPTER} says {rank}: "
            "they are of two trainings. Put both files of the same one there"
        )


def check_tokenizer(folder: Path) -> None:
    """Raises CheckpointError where there is no tokenizer, or none that can be read."""
    if not has_tokenizer(folder):
        raise CheckpointError(
            f"there is no tokenizer in {folder} ({' or '.join(VOCABULARIES[:3])}). "
            "Copy the tokenizer's files there from the model that it was trained with"
        )
    file = folder / VOCABULARIES[0]
    if file.is_file() and not readable_json(file):
        raise CheckpointError(f"{file} cannot be read. {_COPY_AGAIN}")


def has_tokenizer(folder: Path) -> bool:
    """Whether the files of one are there."""
    return any((folder / name).is_file() for name in VOCABULARIES)


_COPY_AGAIN: Final = "Copy it again, or take an earlier checkpoint"


def _config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(
            f"there is no {file.name} in {file.parent}. Name the folder with {CONFIG}, the weights and the tokenizer"
        )
    config = readable_json(file)
    if not config:
        raise CheckpointError(f"{file} cannot be read. {_COPY_AGAIN}")
    return config


def _check_architecture(folder: Path, config: Mapping[str, Any]) -> None:
    family, named = config.get("model_type"), config.get("architectures")
    classes = [str(name) for name in named] if isinstance(named, list) else []
    if not isinstance(family, str) or not family:
        raise CheckpointError(f"{folder / CONFIG} names no model_type. {_COPY_AGAIN}")
    if classes and not any(name.endswith(_CAUSAL) for name in classes):
        raise CheckpointError(
            f"the model in {folder} is a {classes[0]}, which does not write text. "
            "Take one for causal language modelling, such as GPT-2, Llama or Qwen3"
        )


def _shapes(folder: Path, name: str) -> dict[str, list[int]]:
    """The shapes of all tensors; empty where only torch could read them."""
    index = folder / INDEX
    if name == WEIGHTS and index.is_file():
        shards = readable_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{index} cannot be read. {_COPY_AGAIN}")
        files = [folder / str(shard) for shard in sorted(set(shards.values()))]
        for file in files:
            if not file.is_file():
                raise CheckpointError(f"{file} is missing, which {INDEX} names. Copy it there too")
    else:
        files = [folder / name] if (folder / name).is_file() else []
        if not files:
            _check_old(folder, name)
    found: dict[str, list[int]] = {}
    for file in files:
        found |= tensor_shapes(file)
    return found


def _check_old(folder: Path, name: str) -> None:
    file = folder / _OLD_WEIGHTS[name]
    parts = sorted(folder.glob(f"{file.stem}-*.bin"))
    if not file.is_file() and not parts:
        raise CheckpointError(
            f"there are no weights in {folder} ({name}). Name a checkpoint that was written to its end"
        )
    for part in parts or [file]:
        if not (zipfile.is_zipfile(part) or _is_pickle(part)):
            raise CheckpointError(f"{part} is cut off or no file of weights. {_COPY_AGAIN}")


def _is_pickle(file: Path) -> bool:
    """Whether it is what torch wrote before its version 1.6, whose end only loading it finds."""
    with file.open("rb") as content:
        return content.read(1) == pickle.PROTO


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """Names and shapes of the tensors of a safetensors file, all of whose bytes are there.

    Raises:
        CheckpointError: it is cut off, or no such file.
    """
    size = file.stat().st_size
    with file.open("rb") as content:
        ahead = int.from_bytes(content.read(8), "little")
    tensors = {name: one for name, one in header(file).items() if name != "__metadata__"}
    if size < 8 + ahead and 0 < ahead <= MAX_HEADER:
        raise CheckpointError(f"{file} is cut off: its list of weights alone takes {ahead:,} bytes. {_COPY_AGAIN}")
    try:
        shapes = {name: [int(side) for side in one["shape"]] for name, one in tensors.items()}
        whole = 8 + ahead + max((int(one["data_offsets"][1]) for one in tensors.values()), default=0)
    except (KeyError, TypeError, ValueError, IndexError):
        shapes = {}
    if not shapes:
        raise CheckpointError(f"{file} is no file of weights. {_COPY_AGAIN}")
    if size < whole:
        raise CheckpointError(f"{file} is cut off: it has {size:,} of {whole:,} bytes. {_COPY_AGAIN}")
    return shapes


def _check_shapes(folder: Path, config: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> None:
    """Whether the weights are of the model that config.json describes, by its embedding and its layers.

    What else may differ is seen when the model is loaded.
    """
    if not shapes:
        return
    family, hidden, vocabulary = config["model_type"], _number(config, _HIDDEN), _number(config, ("vocab_size",))
    embedding = next((shape for name, shape in shapes.items() if _EMBEDDING.search(name)), None)
    layers, wanted = len({layer for name in shapes for layer in _LAYER.findall(name)}), _number(config, _LAYERS)
    differs = ""
    if not any(name.endswith(_FIRST.get(family, "")) for name in shapes):
        differs = f"no {_FIRST[family]}, which a {family} has"
    elif embedding is not None and hidden and vocabulary and embedding != [vocabulary, hidden]:
        differs = f"an embedding of {' x '.join(map(str, embedding))}, {CONFIG} says {vocabulary} x {hidden}"
    elif layers and wanted and layers != wanted:
        differs = f"{layers} layers, {CONFIG} says {wanted}"
    if differs:
        raise CheckpointError(
            f"the weights in {folder} have {differs}: they are of another model. "
            f"Put {CONFIG} and weights of the same training there"
        )


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := config.get(name), int)), None)
