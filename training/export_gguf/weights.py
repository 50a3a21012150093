"""The weights of a folder, found in its files and held against what its config.json promises."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from training.export_gguf.errors import ExportError

# Tables that older versions of transformers stored with the weights; they follow from the config.
_COMPUTED: Final = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
_PREFIX: Final = "transformer."
_LAST: Final = "lm_head.weight"
_EMBEDDINGS: Final = (".embed_tokens.weight", ".wte.weight")


class Weights:
    """The tensors of a folder's safetensors, read one at a time.

    Attributes:
        shapes: of each tensor that is to be exported, by transformers' name.
    """

    def __init__(self, folder: Path, config: Any, *, tied: bool) -> None:
        """Open the files; nothing but their headers is read.

        Raises:
            ExportError: there are none, one is cut off, or tensors are missing, too many or of other sizes.
        """
        self._places = _places(folder)
        found = {name: tuple(part.get_slice(stored).get_shape()) for name, (part, stored) in self._places.items()}
        expected = _expected(config)
        # Transformers takes a last layer that is stored, whatever config.json says.
        if tied and not self._has_last_of_its_own(found):
            found.pop(_LAST, None)
            expected.pop(_LAST, None)
        _compare(folder, found, expected)
        self.shapes: dict[str, tuple[int, ...]] = found

    def _has_last_of_its_own(self, found: Iterable[str]) -> bool:
        import torch

        embedding = next((name for name in found if name.endswith(_EMBEDDINGS)), None)
        if _LAST not in found or embedding is None:
            return False
        return not torch.equal(self.read(_LAST), self.read(embedding))

    def read(self, name: str) -> Any:
        """One tensor."""
        part, stored = self._places[name]
        return part.get_tensor(stored)


def _places(folder: Path) -> dict[str, tuple[Any, str]]:
    """For each tensor the open file that it is in and its name there."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ExportError(
            f"{folder} has no weights (model.safetensors). Save the model with transformers 5: save_pretrained(folder)"
        )
    places: dict[str, tuple[Any, str]] = {}
    for file in files:
        try:
            part = safe_open(file, framework="pt")
        except (SafetensorError, OSError) as problem:
            raise ExportError(f"{file} is cut off or damaged ({problem}). Copy it again") from None
        places |= {name: (part, name) for name in list(part.keys())}  # type: ignore[no-untyped-call]
    # OpenAI's GPT-2 and those made from it lack the prefix.
    bare = "wte.weight" in places
    return {
        f"{_PREFIX}{name}" if bare and name != _LAST else name: place
        for name, place in places.items()
        if not f".{name}".endswith(_COMPUTED)
    }


def _expected(config: Any) -> dict[str, tuple[int, ...]]:
    """What a model of this config has; it is made without memory for it."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _compare(folder: Path, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    if missing := expected.keys() - found.keys():
        raise ExportError(f"the weights in {folder} lack {_some(missing)}. Copy all their files there")
    if further := found.keys() - expected.keys():
        raise ExportError(f"the weights in {folder} have what its config.json does not: {_some(further)}")
    for name, shape in found.items():
        if shape != expected[name]:
            raise ExportError(
                f"{name} in {folder} is {_sides(shape)}, by its config.json {_sides(expected[name])}: "
                "they are of two models"
            )


def _some(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f"{first} and {len(rest)} more" if rest else first


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
