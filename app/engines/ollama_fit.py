"""Whether a model fits the memory that Ollama may use. Ollama itself does not look: the kernel would kill it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.engines.ollama_errors import LABEL
from app.errors import ModelTooLarge
from app.machine import MIB
from app.sizing import KV_BYTES, model_bytes

_ELEMENT: Final = 2  # bytes of a number in the key-value cache, F16


def kv_bytes(info: Mapping[str, Any]) -> int:
    """Bytes of key-value cache for each token.

    Args:
        info: a model's `model_info`, as /api/show gives it; what is missing there makes it gemma2:2b's.
    """
    family = info.get("general.architecture")
    layers = info.get(f"{family}.block_count")
    heads = info.get(f"{family}.attention.head_count")
    heads_kv = info.get(f"{family}.attention.head_count_kv", heads)
    width = info.get(f"{family}.embedding_length")
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(width, int)):
        return KV_BYTES
    # A list has the heads of each layer.
    all_heads = sum(heads_kv) if isinstance(heads_kv, list) else layers * int(heads_kv or heads)
    lengths = (info.get(f"{family}.attention.{part}_length", width // heads) for part in ("key", "value"))
    return int(_ELEMENT * all_heads * sum(lengths))


def check_fit(model: str, *, size: int, info: Mapping[str, Any], context: int, slots: int, available: int) -> None:
    """Refuse a model that does not fit.

    Args:
        model: its name.
        size: of its file, in bytes.
        info: its `model_info`.
        context: num_ctx, in tokens, of each of the `slots`.
        available: MiB that its process may take.

    Raises:
        ModelTooLarge: it needs more.
    """
    needed = model_bytes(size, kv_bytes(info), context, slots) / MIB
    if needed > available:
        raise ModelTooLarge(engine=LABEL, model=model, needed=int(needed), available=available, context=context)
