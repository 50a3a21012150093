"""Tokenizers: one trained on the corpus, or another model's, and the template that shows them a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from training.config import TrainingConfig
from training.data.corpus import Corpus
from training.data.errors import DataError

END: Final = "<|im_end|>"
START: Final = "<|im_start|>"
TEXT_END: Final = "<|endoftext|>"

# Source: tokenizer.json of Qwen2.
_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# A longer conversation extends the shorter one in both, which keeps the key-value cache valid.
CHATML: Final = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
# For a tokenizer that has no tokens for turns, as app/engines/plain_template.py, but an answer ends with a token.
PLAIN: Final = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{- message['content'] + '\n\n' -}}"
    "{%- elif message['role'] == 'user' -%}{{- 'User: ' + message['content'] + '\n' -}}"
    "{%- else -%}{{- 'Assistant: ' + message['content'] + eos_token + '\n' -}}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}"
)

# Enough to choose merges by; more takes memory and changes little.
_MOST_CHARACTERS: Final = 256_000_000


def train_tokenizer(
    texts: Iterable[str],
    vocabulary: int,
    *,
    template: str | None,
    context: int = 4096,
    end: str = END,
    marks: Sequence[str] = (START, END),
) -> Any:
    """A byte-level BPE with Qwen2's way of splitting words, so that Ollama and llama.cpp know it.

    Args:
        texts: what it is trained on.
        vocabulary: tokens at most, the bytes, the end of a text and the marks among them.
        template: shows it a conversation; None: it knows none.
        context: tokens that its model reads.
        end: the token that ends a reply, or a text.
        marks: further tokens, which the template puts around messages.

    Returns:
        A `transformers.PreTrainedTokenizerFast`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[TEXT_END, *marks],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token=TEXT_END,
        chat_template=template,
        model_max_length=context,
    )


def open_tokenizer(config: TrainingConfig) -> Any:
    """The tokenizer that a config asks for: the one to reuse, else the base model's, else a new one of its corpus.

    A new one for conversations has ChatML's template and ends with `<|im_end|>`; one for plain text has no template
    and ends with `<|endoftext|>`.

    Returns:
        A `transformers.PreTrainedTokenizerFast`.

    Raises:
        DataError: there is no such tokenizer, it is not a fast one, or the corpus cannot be used.
    """
    corpus = Corpus(config.data)
    reuse = config.tokenizer.reuse or config.model.base
    chat = bool(corpus.survey.conversations)
    if reuse:
        return _reused(reuse, chat=chat)
    return train_tokenizer(
        _texts(corpus),
        config.tokenizer.vocabulary,
        template=CHATML if chat else None,
        context=config.model.context,
        end=END if chat else TEXT_END,
    )


def is_folder(name: str) -> bool:
    """Whether a folder of this machine is meant, not a name on the hub (`owner/name`)."""
    return Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1


def load_tokenizer(name: str) -> Any:
    """A tokenizer by its folder, or by its name on the hub.

    Raises:
        DataError: there is none, or none of the fast kind.
    """
    from transformers import AutoTokenizer

    folder, local = Path(name).expanduser(), is_folder(name)
    if local and not folder.is_dir():
        raise DataError(f"the tokenizer {name} is not there; see `tokenizer.reuse` and `model.base` in the config")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder if local else name, local_files_only=local)
    except Exception as problem:  # noqa: BLE001 - each library on the way has its own errors for a broken file
        hint = "its files are missing or broken" if local else "check the name and the network"
        raise DataError(f"the tokenizer {name} cannot be loaded; {hint}: {_first_line(problem)}") from None
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"the tokenizer {name} has no tokenizer.json, which is needed to know where answers begin")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise DataError(f"the tokenizer {name} has no words in it; its files are missing or broken")
    # How it was opened would be saved with it.
    for key in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def _reused(name: str, *, chat: bool) -> Any:
    tokenizer = load_tokenizer(name)
    if tokenizer.eos_token is None:
        raise DataError(f"the tokenizer {name} has no token that ends a text (eos_token); reuse another")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat and not tokenizer.chat_template:
        known = tokenizer.get_vocab()
        if START in known and END in known:
            tokenizer.chat_template, tokenizer.eos_token = CHATML, END
        else:
            tokenizer.chat_template = PLAIN
    return tokenizer


def _texts(corpus: Corpus) -> Iterator[str]:
    """What a new tokenizer is trained on: the training side, of a very large one documents by their places."""
    share = _MOST_CHARACTERS / max(corpus.size, 1)
    below = corpus.survey.below
    for document in corpus.training():
        if (document.place - below) / (1 - below) < share:
            yield document.text
            yield from (message["content"] for message in document.messages)


def _first_line(problem: Exception) -> str:
    return next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)
