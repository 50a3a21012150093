"""What a model's folder says about it, read without torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CONFIG: Final = "config.json"
_INDEX: Final = "model.safetensors.index.json"
_VOCABULARIES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_WEIGHTS: Final = ("*.safetensors", "*.bin")
# The format's own limit. Source: MAX_HEADER_SIZE in safetensors' src/tensor.rs.
_MAX_HEADER: Final = 100_000_000


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
        """As people say it: `0.6B`, `5.1M`; empty when not known."""
        if not self.parameters:
            return ""
        return f"{self.parameters / 1e9:.1f}B" if self.parameters >= 1e8 else f"{self.parameters / 1e6:.1f}M"


def read_files(folder: Path) -> ModelFiles:
    """Describe a folder. What cannot be read stays unknown: loading the model says what is wrong with it."""
    config = _json(folder / CONFIG)
    inner = config.get("text_config")
    text_config: dict[str, Any] = inner if isinstance(inner, dict) else {}
    quantization = config.get("quantization_config")
    context_length = config.get("max_position_embeddings") or text_config.get("max_position_embeddings")
    tied = config.get("tie_word_embeddings", text_config.get("tie_word_embeddings")) is True
    return ModelFiles(
        size=sum(file.stat().st_size for pattern in _WEIGHTS for file in folder.glob(pattern)),
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


def is_whole(folder: Path) -> bool:
    """Whether a folder has a configuration, a tokenizer, and every file of weights that its index names.

    An interrupted download has some of them.
    """
    if not (folder / CONFIG).is_file() or not any((folder / name).is_file() for name in _VOCABULARIES):
        return False
    if not (folder / _INDEX).is_file():
        return any(folder.glob("*.safetensors"))
    shards = _json(folder / _INDEX).get("weight_map")
    return isinstance(shards, dict) and all((folder / str(shard)).is_file() for shard in shards.values())


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _parameters(folder: Path, *, tied: bool) -> int | None:
    """Counted from the headers of the safetensors files; an output layer that is the embedding again, once."""
    count = 0
    for file in folder.glob("*.safetensors"):
        for name, tensor in _header(file).items():
            shape = tensor.get("shape") if isinstance(tensor, dict) else None
            if isinstance(shape, list) and not (tied and name == "lm_head.weight"):
                count += math.prod(shape)
    return count or None


def _header(file: Path) -> dict[str, Any]:
    """Names, types and shapes of a file's tensors: 8 bytes of length, little-endian, then JSON.

    Source: the format's description in safetensors' README.
    """
    try:
        with file.open("rb") as content:
            size = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(size)) if size <= _MAX_HEADER else {}
    except (OSError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}
