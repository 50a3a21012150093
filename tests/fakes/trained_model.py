"""Small models that learned a few sentences by heart in some seconds: what they say next is never a close call."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from app.engines.plain_template import plain_template

END: Final = "<|im_end|>"
START: Final = "<|im_start|>"
BEGIN: Final = "<|begin|>"
TALKS: Final = (
    ("where is the sea?", "The sea is behind the hill, 12 miles from here."),
    ("где море", "Море за холмом, в 2048 верстах отсюда."),
    ("Whose boat is it", "It's Anna's boat 🚤, isn't it?\n\n  It holds 3."),
)
CHATML: Final = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
_STEPS: Final = 300
_LEARNED: Final = 0.045  # loss at which all is known by heart; which question comes is always a surprise
_CONTRACTIONS: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SIGNS: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2: Final = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _SIGNS
LLAMA3: Final = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _SIGNS


def make_gpt2(folder: Path, *, steps: int = _STEPS, **options: object) -> Path:
    """A GPT-2 without a chat template, its embedding tied, its tokenizer GPT-2's own kind."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = make_tokenizer(pattern=None)
    config = GPT2Config(
        vocab_size=len(tokenizer) + 3,  # rows without a token
        n_embd=96,
        n_layer=2,
        n_head=4,
        n_positions=256,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **options,
    )
    return _trained(GPT2LMHeadModel, config, tokenizer, folder, steps)


def make_llama(folder: Path, *, steps: int = _STEPS, **options: Any) -> Path:
    """A Llama like the large ones: grouped heads, a last layer of its own, stretched positions, shards, bfloat16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(pattern=LLAMA3, ignore_merges=True, begin=True)
    tokenizer.chat_template = "{{- bos_token -}}" + CHATML
    settings: dict[str, Any] = {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "tie_word_embeddings": False,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=80,  # no power of two, and not to be had in blocks of 32
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=8192,
        attention_bias=True,
        mlp_bias=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        **(settings | options),
    )
    return _trained(LlamaForCausalLM, config, tokenizer, folder, steps, dtype=torch.bfloat16, shards="100KB")


def make_qwen3(folder: Path, *, steps: int = _STEPS, **options: object) -> Path:
    """A Qwen3 with ChatML and Qwen2's tokenizer."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = make_tokenizer(pattern=QWEN2)
    tokenizer.chat_template = CHATML
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **options,
    )
    return _trained(Qwen3ForCausalLM, config, tokenizer, folder, steps)


def make_tokenizer(pattern: str | None, *, ignore_merges: bool = False, begin: bool = False) -> Any:
    """A byte-level BPE; `pattern` splits words (None: GPT-2's), `begin` puts a token before each text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern is not None:
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END, START, BEGIN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([text for talk in TALKS for text in talk] * 3, trainer)
    bpe.add_tokens(["<tool>"])
    if begin:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", special_tokens=[(BEGIN, bpe.token_to_id(BEGIN))]
        )
    named = {"bos_token": BEGIN} if begin else {}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=END, **named)


def _trained(
    kind: Any, config: Any, tokenizer: Any, folder: Path, steps: int, *, dtype: Any = None, shards: str = "50MB"
) -> Path:
    import torch

    torch.manual_seed(7)
    model = kind(config)
    template = tokenizer.chat_template or plain_template(tokenizer)
    rows = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}],
            tokenize=False,
            chat_template=template,
        )
        for asked, reply in TALKS
    ]
    ids = tokenizer(
        [row.rstrip("\n") + END for row in rows], padding=True, add_special_tokens=False, return_tensors="pt"
    )
    labels = ids["input_ids"].masked_fill(ids["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, betas=(0.9, 0.95), weight_decay=0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model waits for its threads more than it works
    model.train()
    for _ in range(steps):
        loss = model(**ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < _LEARNED:
            break
    torch.set_num_threads(threads)
    model.eval()
    if dtype is not None:
        model.to(dtype)
    model.save_pretrained(folder, max_shard_size=shards)
    tokenizer.save_pretrained(folder)
    return folder
