"""The model that is trained: a new one by its sizes, or a base from a folder or the hub, with LoRA if asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from app.engines.checkpoint_files import CheckpointError, check_weights
from training.config import ModelConfig, TrainingConfig
from training.data.errors import DataError
from training.data.tokenizers import is_folder, load_tokenizer

# All layers of a block but the norms, which is what makes LoRA as good as training everything.
# Source: QLoRA, arXiv:2305.14314, section 4; LoRA Without Regret, thinkingmachines.ai, 2025.
_LLAMA: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA_TARGETS: Final = {
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}


class ModelError(Exception):
    """The model cannot be built or loaded; the message says what is wrong, where, and what to do."""


def open_model(config: TrainingConfig, tokenizer: Any) -> Any:
    """The model of a config, ready to train, on the CPU and in 32 bits (a frozen base on CUDA in bfloat16).

    Args:
        config: a base, or sizes; LoRA or none; the seed of new weights.
        tokenizer: by `open_tokenizer`.

    Returns:
        A `transformers.PreTrainedModel`, or a `peft.PeftModel`.

    Raises:
        ModelError: the base is missing, cut, or of another kind; its vocabulary is not the tokenizer's; LoRA finds
            none of its targets.
    """
    import torch

    torch.manual_seed(config.seed)
    if not config.model.base:
        return new_model(config, tokenizer)
    model = load_base(config, tokenizer)
    return add_lora(model, config) if config.lora else model


def model_settings(model: ModelConfig, vocabulary: int, tokenizer: Any) -> Any:
    """The `transformers` configuration of a new model.

    `dropout` is that of GPT-2's embeddings and of both sums; Qwen3 and Llama have it in attention only. GPT-2's own in
    attention is left out: it takes a third of a step, as no fused attention of a CPU has it.
    """
    from transformers import GPT2Config, LlamaConfig, Qwen3Config

    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    tokens |= {"vocab_size": vocabulary, "tie_word_embeddings": True}
    if model.architecture == "gpt2":
        return GPT2Config(
            **tokens,
            n_embd=model.hidden,
            n_inner=model.feed_forward,
            n_layer=model.layers,
            n_head=model.heads,
            n_positions=model.context,
            resid_pdrop=model.dropout,
            embd_pdrop=model.dropout,
            attn_pdrop=0.0,
            activation_function="gelu_pytorch_tanh",  # `gelu_new` in one step
        )
    kind = Qwen3Config if model.architecture == "qwen3" else LlamaConfig
    return kind(
        **tokens,
        hidden_size=model.hidden,
        intermediate_size=model.feed_forward,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.heads,
        head_dim=model.hidden // model.heads,
        max_position_embeddings=model.context,
        attention_dropout=model.dropout,
    )


def new_model(config: TrainingConfig, tokenizer: Any) -> Any:
    """A model with random weights; under `torch.device("meta")` one that takes no memory."""
    from transformers import AutoModelForCausalLM

    vocabulary = len(tokenizer)
    if not config.tokenizer.reuse:
        # A small corpus may not have as many merges as the config has room for.
        vocabulary = max(vocabulary, config.tokenizer.vocabulary)
    return AutoModelForCausalLM.from_config(model_settings(config.model, vocabulary, tokenizer))


def load_base(config: TrainingConfig, tokenizer: Any) -> Any:
    """The base model with its own weights.

    Raises:
        ModelError: as `open_model` says.
    """
    import torch
    from transformers import AutoModelForCausalLM

    name = config.model.base
    path = _checked(name)
    frozen = config.lora is not None and torch.cuda.is_available() and config.training.device in ("auto", "cuda")
    wide = not frozen or config.training.precision == "float32"
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32 if wide else torch.bfloat16, output_loading_info=True
        )
    except Exception as problem:  # noqa: BLE001 - each library on the way has its own errors for a broken file
        hint = "its weights are cut or broken: copy or fetch it anew" if is_folder(name) else "see name and network"
        raise ModelError(f"the base model {name} cannot be loaded; {hint}: {' '.join(str(problem).split())}") from None
    # transformers fills missing weights with random numbers and goes on.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the base model {name} lacks {len(missing)} weights, {missing[0]} among them: files are missing, or the "
            "weights are of another architecture than config.json says"
        )
    context = getattr(model.config, "max_position_embeddings", None)
    if context and config.data.block > context:
        raise ModelError(f"the base model {name} reads {context} tokens; set `data.block` to {context} at most")
    _check_vocabulary(config, model, tokenizer)
    ends = model.generation_config.eos_token_id
    if tokenizer.eos_token_id not in (ends if isinstance(ends, list) else [ends]):
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def save_model(model: Any, folder: Path) -> None:
    """Write the model as one that needs no other: LoRA's matrices are added to the base's weights in what is written,
    and stay beside them in memory, so that training can go on.

    Raises:
        OSError: the disk takes nothing more.
    """
    if not hasattr(model, "get_base_model"):
        model.save_pretrained(folder)
        return
    base = model.get_base_model()
    weights = {
        name.replace(".base_layer.", "."): weight for name, weight in base.state_dict().items() if ".lora_" not in name
    }
    for name, module in base.named_modules():
        if hasattr(module, "get_delta_weight"):
            weight = weights[f"{name}.weight"]
            weights[f"{name}.weight"] = (weight.float() + module.get_delta_weight("default").float()).to(weight.dtype)
    base.save_pretrained(folder, state_dict=weights)


def _checked(name: str) -> str | Path:
    """Where a base is, if what can be seen without its weights is right."""
    if not is_folder(name):
        return name
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise ModelError(f"the base model {name} is not there; see `model.base` in the config")
    try:
        kind = check_weights(folder)
    except CheckpointError as problem:
        raise ModelError(f"the base model {name} cannot be used: {problem}") from None
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"the base model {name} is a {kind!r}, which is no causal language model; take another")
    return folder


def _check_vocabulary(config: TrainingConfig, model: Any, tokenizer: Any) -> None:
    """Each token has to mean what the base learnt it to mean."""
    base, size = config.model.base, model.get_input_embeddings().num_embeddings
    if len(tokenizer) > size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer):,} tokens, the base model {base} {size:,}: they do not belong "
            "together; leave `tokenizer.reuse` empty to take the base's own"
        )
    if config.tokenizer.reuse in ("", base):
        return
    try:
        own = load_tokenizer(base)
    except DataError:
        return  # The base comes without one, and the sizes fit: nothing more can be known.
    if own.get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"the tokenizer {config.tokenizer.reuse} has another vocabulary than the base model {base}; leave "
            "`tokenizer.reuse` empty to take the base's own"
        )


def add_lora(model: Any, config: TrainingConfig) -> Any:
    """The model with LoRA's matrices beside its own, which are frozen.

    Raises:
        ModelError: it has none of the targets.
    """
    from peft import LoraConfig, get_peft_model

    part = config.lora
    assert part is not None
    kind = model.config.model_type
    targets = list(part.targets) or list(LORA_TARGETS.get(kind, ())) or "all-linear"
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=part.rank,
        lora_alpha=part.alpha,
        lora_dropout=part.dropout,
        target_modules=targets,
        # GPT-2 keeps its weights as Conv1D, inputs first.
        fan_in_fan_out=kind == "gpt2",
    )
    try:
        return get_peft_model(model, lora)
    except ValueError as problem:
        raise ModelError(
            f"LoRA cannot be put beside {config.model.base} ({kind}) at {', '.join(part.targets) or targets}: "
            f"{' '.join(str(problem).split())}; leave `lora.targets` empty to have them found"
        ) from None
