"""A chat model of random weights, small enough to make in a test: what it says is noise, but always the same noise.

Its tokens are bytes, so that most of what it says is broken UTF-8, which is what a stream of text has to bear.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
_TURNS: Final = "{%- for m in messages -%}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{%- endfor -%}"
PLAIN: Final = _TURNS + "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
# As Qwen3 does when it is told not to think, and as models do whose reasoning the template opens.
THINKING: Final = (
    PLAIN + "{%- if enable_thinking %}{{- '<think>\n' -}}{% else %}{{- '<think>\n\n</think>\n\n' -}}{% endif -%}"
)


def make_tiny_model(
    folder: Path, *, seed: int = 0, template: str | None = PLAIN, context: int = 2048, hidden: int = 32
) -> Path:
    """Write a random Qwen3 with two layers and a byte-level tokenizer.

    Args:
        folder: where; made if it is not there.
        seed: of the weights.
        template: of the chat; None: it is no chat model.
        context: the most tokens it takes.
        hidden: width; the parameters are about 600 times that.

    Returns:
        `folder`.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer(template)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        initializer_range=0.5,  # wide, or it says the same byte for ever
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        bos_token_id=None,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_gpt2(folder: Path, *, seed: int = 0, context: int = 256) -> Path:
    """Write a random GPT-2 of two layers without a chat template, as training from scratch on texts does.

    Returns:
        `folder`.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = _tokenizer(None)
    torch.manual_seed(seed)
    end = tokenizer.convert_tokens_to_ids(END)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=end,
        eos_token_id=end,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_adapter(folder: Path, base: Path, *, seed: int = 1) -> Path:
    """Write a LoRA adapter of random weights for the model in `base`.

    Returns:
        `folder`.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    lora = LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora).save_pretrained(folder)
    return folder


def _tokenizer(template: str | None) -> Any:
    """Bytes, and two marks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.add_special_tokens([START, END])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token=END, pad_token=END)
    tokenizer.chat_template = template
    return tokenizer
