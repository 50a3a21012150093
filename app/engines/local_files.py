"""What a model's folder says about it, read without torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CONFIG: Final = "config.json"
INDEX: Final = "model.safetensors.index.json"
# What config.json calls the most tokens, by family: most, GPT-2, MPT.
_CONTEXTS: Final = ("max_position_embeddings", "n_positions", "max_seq_len")
VOCABULARIES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_WEIGHTS: Final = ("*.safetensors", "*.bin")
_USUAL: Final = ("model", "pytorch_model")
# The format's own limit. Source: MAX_HEADER_SIZE in safetensors' src/tensor.rs.
MAX_HEADER: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What the files of a model say.

    Attributes:
        size: bytes of its weights.
        parameters: how many, None where the weights do not tell (no safetensors, packed by a quantisation).
        family: `model_type` of the configuration, e.g. `qwen3`.
        quantization: its method, e.g. `gptq`; empty: none.
        context_length: the most tokens that it was made for, None where it does not say.
        can_think: its chat template knows `enable_thinking`.
    """

    size: int = 0
    parameters: int | None = None
    family: str = ""
    quantization: str = ""
    context_length: int | None = None
    can_think: bool = False

    @property
    def parameters_label(self) -> str:
        """As people say it: `0.6B`, `5.1M`, `42K`; empty when not known."""
        if not self.parameters:
            return ""
        if self.parameters < 1e5:
            return f"{self.parameters / 1e3:.0f}K"
        return f"{self.parameters / 1e9:.1f}B" if self.parameters >= 1e8 else f"{self.parameters / 1e6:.1f}M"


def read_files(folder: Path) -> ModelFiles:
    """Describe a folder. What cannot be read stays unknown: loading the model says what is wrong with it."""
    config = read_json(folder / CONFIG)
    inner = config.get("text_config")
    text_config: dict[str, Any] = inner if isinstance(inner, dict) else {}
    quantization = config.get("quantization_config")
    context_length = next(
        (length for part in (config, text_config) for name in _CONTEXTS if (length := part.get(name))), None
    )
    tied = config.get("tie_word_embeddings", text_config.get("tie_word_embeddings")) is True
    return ModelFiles(
        size=sum(file.stat().st_size for file in _weights(folder)),
        parameters=None if quantization else _parameters(folder, tied=tied),
        family=str(config.get("model_type", "")),
        quantization=str(quantization.get("quant_method", "")) if isinstance(quantization, dict) else "",
        context_length=context_length if isinstance(context_length, int) else None,
        can_think=any(
            b"enable_thinking" in file.read_bytes()
            for file in (folder / "chat_template.jinja", folder / "tokenizer_config.json")
            if file.is_file()
        ),
    )


def has_template(folder: Path) -> bool:
    """Whether the tokenizer there knows how a conversation is written."""
    files = (folder / "chat_template.jinja", folder / "chat_template.json", folder / "chat_templates")
    return any(file.exists() for file in files) or bool(
        read_json(folder / "tokenizer_config.json").get("chat_template")
    )


def is_whole(folder: Path) -> bool:
    """Whether a folder has a configuration, a tokenizer, and every file of weights that its index names.

    An interrupted download has some of them.
    """
    if not (folder / CONFIG).is_file() or not any((folder / name).is_file() for name in VOCABULARIES):
        return False
    if not (folder / INDEX).is_file():
        return any(folder.glob("*.safetensors"))
    shards = read_json(folder / INDEX).get("weight_map")
    return isinstance(shards, dict) and all((folder / str(shard)).is_file() for shard in shards.values())


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file; empty where there is none."""
    try:
        return readable_json(file)
    except OSError:
        return {}


def readable_json(file: Path) -> dict[str, Any]:
    """The object in a file; empty where it holds none.

    Raises:
        OSError: the file is missing, or nobody may read it here.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _weights(folder: Path) -> list[Path]:
    """Files of weights, without what is beside those of the usual names: a training's checkpoint keeps its weights
    before averaging there, others a copy in another format."""
    found = [file for pattern in _WEIGHTS for file in folder.glob(pattern)]
    return [file for file in found if file.name.startswith(_USUAL)] or found


def _parameters(folder: Path, *, tied: bool) -> int | None:
    """Counted from the headers of the safetensors files; an output layer that is the embedding again, once."""
    count = 0
    for file in _weights(folder):
        if file.suffix != ".safetensors":
            continue
        for name, tensor in header(file).items():
            shape = tensor.get("shape") if isinstance(tensor, dict) else None
            if isinstance(shape, list) and not (tied and name == "lm_head.weight"):
                count += math.prod(shape)
    return count or None


def header(file: Path) -> dict[str, Any]:
    """Names, types and shapes of a file's tensors: 8 bytes of length, little-endian, then JSON.

    Source: the format's description in safetensors' README.
    """
    try:
        with file.open("rb") as content:
            size = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(size)) if size <= MAX_HEADER else {}
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}
