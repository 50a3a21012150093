"""A chat model of random weights, small enough to make in a test: what it says is noise, but always the same noise.

Its tokens are bytes, so that most of what it says is broken UTF-8, which is what a stream of text has to bear.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

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
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.add_special_tokens([START, END])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token=END, pad_token=END)
    tokenizer.chat_template = template
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
