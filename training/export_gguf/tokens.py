"""A tokenizer in GGUF's words: tokens, kinds, merges, and the name of its way to split words.

What counts is the tokenizer as transformers runs it, not as some file has it. Source of the names and of what each
splits by: `llm_tokenizer_bpe` in llama.cpp's src/llama-vocab.cpp, which has the originals in comments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from training.export_gguf.errors import ExportError

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ENDINGS: Final = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])")
_WORDS: Final = r"|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SIGNS: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Llama 3's takes a word that is a token as that token, whatever the merges say; Smaug's splits the same and does not.
_WHOLE_WORDS: Final = "llama-bpe"
_PATTERNS: Final[dict[tuple[str, ...], str]] = {
    (_GPT2,): "gpt-2",
    (r"\p{N}", _GPT2): "smollm",
    **{(ending + _WORDS + r"\p{N}" + _SIGNS,): "qwen2" for ending in _ENDINGS},
    **{(ending + _WORDS + r"\p{N}{1,3}" + _SIGNS,): _WHOLE_WORDS for ending in _ENDINGS},
}
_KNOWN: Final = "those of GPT-2, Qwen2 and Qwen3, Llama 3, and SmolLM"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What llama.cpp makes a tokenizer of.

    Attributes:
        tokenizer: transformers' own, for its template.
        pre: the name of its way to split words.
        tokens: by id, one for each row of the embedding.
        kinds: of each token, gguf's `TokenType`.
        merges: of byte-level BPE, the first ones first.
        end: the id that ends a reply.
        further_ends: ids that do so too.
        start: the id of the token before all others; None: it has none.
        adds_start: whether encoding puts it there.
        padding: the id of the token that fills rows; None: it has none.
    """

    tokenizer: Any
    pre: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    merges: tuple[str, ...]
    end: int
    further_ends: tuple[int, ...]
    start: int | None
    adds_start: bool
    padding: int | None

    @property
    def ends(self) -> list[str]:
        """The texts that end a reply."""
        return [self.tokens[number] for number in (self.end, *self.further_ends)]

    def add_to(self, writer: Any) -> None:
        """Write it; the chat template is left to others."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        writer.add_token_merges(self.merges)
        writer.add_eos_token_id(self.end)
        if self.further_ends:
            writer.add_eot_token_id(self.further_ends[0])
        if self.start is not None:
            writer.add_bos_token_id(self.start)
        if self.padding is not None:
            writer.add_pad_token_id(self.padding)
        writer.add_add_bos_token(self.adds_start)


def read_tokens(folder: Path, vocabulary: int) -> Tokens:
    """Read a folder's tokenizer.

    Args:
        folder: with tokenizer.json.
        vocabulary: rows of the model's embedding; what the tokenizer has no token for is filled up.

    Raises:
        ExportError: there is none, or llama.cpp would split texts otherwise than it.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        whole = json.loads(tokenizer.backend_tokenizer.to_str())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as problem:
        raise ExportError(
            f"the tokenizer in {folder} cannot be read ({_line(problem)}). Copy tokenizer.json and "
            "tokenizer_config.json there from the model that it was trained with"
        ) from None
    pre = _pre(folder, whole)
    added = {int(token["id"]): token for token in whole["added_tokens"]}
    by_id = {number: token for token, number in whole["model"]["vocab"].items()} | {
        number: token["content"] for number, token in added.items()
    }
    if max(by_id) >= vocabulary:
        raise ExportError(f"the tokenizer in {folder} has {max(by_id) + 1} tokens, the model {vocabulary}")
    ends = _ends(folder, tokenizer)
    return Tokens(
        tokenizer=tokenizer,
        pre=pre,
        tokens=tuple(by_id.get(number, f"[PAD{number}]") for number in range(vocabulary)),
        kinds=tuple(_kind(number, by_id, added) for number in range(vocabulary)),
        merges=tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in whole["model"]["merges"]),
        end=ends[0],
        further_ends=tuple(ends[1:]),
        start=tokenizer.bos_token_id,
        adds_start=_adds_start(folder, tokenizer),
        padding=tokenizer.pad_token_id,
    )


def _kind(number: int, by_id: Mapping[int, str], added: Mapping[int, Mapping[str, Any]]) -> int:
    from gguf import TokenType

    if number not in by_id:
        return int(TokenType.UNUSED)
    if number not in added:
        return int(TokenType.NORMAL)
    return int(TokenType.CONTROL if added[number]["special"] else TokenType.USER_DEFINED)


def _pre(folder: Path, whole: Mapping[str, Any]) -> str:
    """The name that llama.cpp has for how the tokenizer splits words."""
    model = whole["model"]
    patterns = _patterns(whole.get("pre_tokenizer"))
    if model["type"] != "BPE" or model.get("byte_fallback") or patterns is None:
        kind = model["type"] + (" of SentencePiece" if model.get("byte_fallback") or model["type"] == "Unigram" else "")
        raise ExportError(
            f"the tokenizer in {folder} is a {kind}; exported are byte-level BPE ones. "
            "llama.cpp's own convert_hf_to_gguf.py knows more"
        )
    normalizer = (whole.get("normalizer") or {}).get("type")
    # llama.cpp has no NFC; what people type is NFC already.
    if normalizer not in (None, "NFC"):
        raise ExportError(f"the tokenizer in {folder} changes texts first ({normalizer}), which llama.cpp does not")
    pre = _PATTERNS.get(patterns)
    if pre is None:
        raise ExportError(
            f"the tokenizer in {folder} splits words by {' and '.join(patterns)}, which llama.cpp has no name for "
            f"here. Known are {_KNOWN}. llama.cpp's own convert_hf_to_gguf.py knows more"
        )
    if not model.get("ignore_merges"):
        return "smaug-bpe" if pre == _WHOLE_WORDS else pre
    if pre != _WHOLE_WORDS:
        raise ExportError(
            f"the tokenizer in {folder} has ignore_merges, which llama.cpp has with Llama 3's words alone"
        )
    return pre


def _patterns(step: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """What words are split by, one pattern after another; None: it is not byte-level."""
    steps = list(step["pretokenizers"]) if step and step["type"] == "Sequence" else [step]
    patterns: list[str] = []
    byte_level = False
    for one in steps:
        match one:
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": own}:
                byte_level = True
                patterns += [_GPT2] if own else []
            case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
                patterns.append(pattern)
            case {"type": "Digits", "individual_digits": True}:
                patterns.append(r"\p{N}")
            case {"type": "ByteLevel"}:
                byte_level = True
                patterns.append("words with a space put before the first (add_prefix_space)")
            case {"type": kind}:
                patterns.append(str(kind))
    return tuple(patterns) if byte_level else None


def _ends(folder: Path, tokenizer: Any) -> list[int]:
    """The ids that end a reply, the tokenizer's own first."""
    try:
        generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        generation = {}
    named = generation.get("eos_token_id")
    ends = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    found = list(dict.fromkeys(end for end in ends if isinstance(end, int)))
    if not found:
        # llama.cpp would take token 11 for it.
        raise ExportError(
            f"the tokenizer in {folder} names no token that ends a text. Write it as eos_token in tokenizer_config.json"
        )
    return found


def _adds_start(folder: Path, tokenizer: Any) -> bool:
    bare, whole = (tokenizer.encode("a", add_special_tokens=special) for special in (False, True))
    if whole == bare:
        return False
    if whole == [tokenizer.bos_token_id, *bare]:
        return True
    raise ExportError(f"the tokenizer in {folder} puts more than its bos_token around texts, which llama.cpp does not")


def _line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)
