"""A LoRA adapter and its base as one model, since GGUF here holds whole models."""

from __future__ import annotations

from pathlib import Path

from app.engines.local_errors import words
from app.engines.local_loading import with_adapter
from training.export_gguf.errors import ExportError


def merge(adapter: Path, base: Path, tokenizer: Path, folder: Path) -> None:
    """Write the merged model and its tokenizer into `folder`.

    Args:
        adapter: folder with adapter_config.json.
        base: folder of the model that it was trained on.
        tokenizer: folder with the tokenizer.
        folder: where; it is there.

    Raises:
        ExportError: the two do not belong together, or the disk is full.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype="auto")
        vocabulary = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        model = with_adapter(model, adapter)
        model.save_pretrained(folder)
        vocabulary.save_pretrained(folder)
    except Exception as problem:  # noqa: BLE001 - each library on the way has its own errors for a broken file
        raise ExportError(f"the adapter in {adapter} cannot be merged into {base}: {words(problem)}") from None
