"""`python -m training.export_gguf MODEL OUT.gguf`: writes a Qwen3 folder as GGUF, for Ollama and llama.cpp.

Names and keys: gguf-py's MODEL_ARCH.QWEN3 and convert_hf_to_gguf.py of llama.cpp. Weights in F16, norms in F32.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

_ARCHITECTURE: Final = "qwen3"


class ExportError(Exception):
    """The folder cannot be written as GGUF; the message says why."""


def export(folder: Path, out: Path) -> None:
    """Write the model in `folder` to `out`.

    Raises:
        ExportError: it is no Qwen3, or files are missing.
    """
    import gguf
    import torch
    from safetensors.torch import load_file

    config = _config(folder)
    weights: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    if not weights:
        raise ExportError(f"{folder} has no weights (*.safetensors)")
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(out, _ARCHITECTURE)
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    writer.add_name(folder.resolve().name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config.get("head_dim") or hidden // heads)
    writer.add_value_length(config.get("head_dim") or hidden // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(_rope_theta(config))
    _add_tokenizer(writer, gguf, folder, config["vocab_size"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    for name, tensor in weights.items():
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            raise ExportError(f"{folder} has a tensor that Qwen3 does not: {name}")
        kind = torch.float32 if tensor.dim() == 1 else torch.float16
        writer.add_tensor(new, tensor.to(kind).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ExportError(f"{folder}/config.json cannot be read: {problem}") from None
    if config.get("model_type") != _ARCHITECTURE:
        raise ExportError(f"{folder} is a {config.get('model_type')!r}; only {_ARCHITECTURE} can be exported")
    return config


def _rope_theta(config: dict[str, Any]) -> float:
    # transformers 5 keeps it among rope_parameters, older folders at the top.
    return float((config.get("rope_parameters") or {}).get("rope_theta") or config.get("rope_theta") or 10_000.0)


def _add_tokenizer(writer: Any, gguf: Any, folder: Path, vocabulary: int) -> None:
    """Byte-level BPE: llama.cpp's `gpt2`, with Qwen2's way of splitting words."""
    from transformers import AutoTokenizer

    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    added = {token["id"]: token for token in whole["added_tokens"]}
    by_id = {number: token for token, number in whole["model"]["vocab"].items()} | {
        number: token["content"] for number, token in added.items()
    }
    tokens, kinds = [], []
    for number in range(vocabulary):
        token = by_id.get(number)
        tokens.append(token if token is not None else f"[PAD{number}]")
        special = number in added and added[number]["special"]
        kinds.append(
            gguf.TokenType.UNUSED if token is None else gguf.TokenType.CONTROL if special else gguf.TokenType.NORMAL
        )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in whole["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        export(arguments.model, arguments.out)
    except ExportError as problem:
        sys.exit(f"export-gguf: {problem}")
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")
    print(f"In Ollama: echo 'FROM {arguments.out.resolve()}' > Modelfile && ollama create NAME -f Modelfile")


if __name__ == "__main__":
    main()
