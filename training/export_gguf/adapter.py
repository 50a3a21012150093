"""A LoRA adapter and its base as one model, since GGUF here holds whole models."""

from __future__ import annotations

from pathlib import Path

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
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(base, local_files_only=True, dtype="auto")
        vocabulary = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        model.save_pretrained(folder)
        vocabulary.save_pretrained(folder)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as problem:
        raise ExportError(f"the adapter in {adapter} cannot be merged into {base}: {problem}") from None
