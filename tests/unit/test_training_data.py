"""What training is fed with: tokens in rows, answers learnt and questions read, and the tokenizer for them."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.config import DataConfig, ModelConfig, TokenizerConfig, TrainingConfig
from training.data import Data, DataError, open_data
from training.data.blocks import IGNORED, Blocks
from training.data.documents import Document
from training.data.encoding import Encoder
from training.data.tokenizers import CHATML, PLAIN, open_tokenizer, train_tokenizer
from training.guide.tokenizer import VOCABULARY

GUIDE = Path(__file__).resolve().parents[2] / "models" / "guide"
CHAT = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1."},
    {"role": "user", "content": "Два?"},
    {"role": "assistant", "content": "2."},
)
# As Qwen3's does, in short: reasoning is in front of the last answer only, and empty where none is wanted.
REASONING = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.role == 'assistant' and loop.last -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
    "{{- message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and not enable_thinking -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
    "{%- endif -%}"
)


def new_tokenizer(template: str | None = CHATML) -> Any:
    return train_tokenizer(["Be kind. One? 1. Два? 2. " * 10], 320, template=template)


@pytest.fixture
def tokenizer() -> Any:
    return new_tokenizer()


def learnt(tokenizer: Any, tokens: np.ndarray) -> list[str]:
    """The runs of learnt tokens, as text."""
    runs: list[list[int]] = [[]]
    for token in tokens.tolist():
        if token >= 0:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


def encode(tokenizer: Any, *documents: Document) -> list[np.ndarray]:
    return [tokens for tokens, _ in Encoder(tokenizer).encode(documents)]


def whole(tokens: np.ndarray) -> list[int]:
    return np.where(tokens < 0, ~tokens, tokens).tolist()


def test_of_a_conversation_only_answers_and_their_ends_are_learnt(tokenizer: Any) -> None:
    (tokens,) = encode(tokenizer, Document(messages=CHAT))
    assert learnt(tokenizer, tokens) == ["1.<|im_end|>", "2.<|im_end|>"]
    assert tokenizer.decode(whole(tokens)) == tokenizer.apply_chat_template(list(CHAT), tokenize=False)


def test_of_feedback_only_the_liked_answer_is_learnt(tokenizer: Any) -> None:
    (tokens,) = encode(tokenizer, Document(messages=CHAT, last_only=True))
    assert learnt(tokenizer, tokens) == ["2.<|im_end|>"]


def test_a_template_that_shows_the_last_answer_otherwise_makes_an_example_of_each() -> None:
    tokenizer = new_tokenizer(REASONING)
    first, second = encode(tokenizer, Document(messages=CHAT))
    assert learnt(tokenizer, first) == ["1.<|im_end|>"]
    assert learnt(tokenizer, second) == ["2.<|im_end|>"]
    assert tokenizer.decode(whole(first)).endswith("<think>\n\n</think>\n\n1.<|im_end|>\n")
    assert tokenizer.decode(whole(second)).count("<think>") == 1


def test_a_tokenizer_without_tokens_for_turns_gets_a_plain_template() -> None:
    tokenizer = new_tokenizer(PLAIN)
    (tokens,) = encode(tokenizer, Document(messages=CHAT))
    assert learnt(tokenizer, tokens) == [" 1.<|im_end|>", " 2.<|im_end|>"]
    assert tokenizer.decode(whole(tokens)).startswith("Be kind.\n\nUser: One?\nAssistant: 1.")


@pytest.mark.parametrize("template", ["{{- messages[0]['content'] -}}", "{{- raise_exception('no') -}}"])
def test_a_template_that_cannot_teach_is_named(template: str) -> None:
    with pytest.raises(DataError, match="chat template"):
        encode(new_tokenizer(template), Document(messages=CHAT))


def test_a_text_is_learnt_as_a_whole_and_ends_once(tokenizer: Any) -> None:
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    parts = encode(tokenizer, Document(text="One"), Document(text=" two.", continues=True), Document(text="Three"))
    tokens = np.concatenate(parts)
    assert (tokens >= 0).all()
    assert tokenizer.decode(tokens) == "One two.<|endoftext|>Three<|endoftext|>"
    assert tokens[-1] == end


def test_texts_end_where_conversations_begin_and_in_every_batch(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [
        Document(text="One"),
        Document(messages=CHAT),
        Document(text="Two"),
        Document(text="2", continues=True),
    ]
    expected = np.concatenate(encode(tokenizer, *documents))
    monkeypatch.setattr("training.data.encoding._BATCH", 1)
    assert np.concatenate(encode(tokenizer, *documents)).tolist() == expected.tolist()
    assert tokenizer.decode(whole(expected)).startswith("One<|endoftext|><|im_start|>system")
    assert tokenizer.decode(whole(expected)).endswith("Two2<|endoftext|>")


def test_the_bytes_of_what_is_learnt_are_counted(tokenizer: Any) -> None:
    documents = [Document(text="Два"), Document(messages=CHAT)]
    assert sum(size for _, size in Encoder(tokenizer).encode(documents)) == 6 + 2 + 2


@given(st.lists(st.lists(st.integers(-5, 5), max_size=20), max_size=20), st.integers(2, 9), st.booleans())
def test_no_token_is_lost_but_the_tail_and_rows_without_a_learnt_one(
    documents: list[list[int]], block: int, padded: bool
) -> None:
    tokens = [token for document in documents for token in document]
    if padded:
        tokens += [~7] * (-len(tokens) % block)
    blocks = Blocks(((np.array(one, np.int32), 0) for one in documents), block, padding=7 if padded else None)
    rows = [tokens[at : at + block] for at in range(0, len(tokens) - block + 1, block)]
    rows = [row for row in rows if any(token >= 0 for token in row[1:])]
    assert len(blocks) == len(rows)
    for number, row in enumerate(rows):
        item = blocks[number]
        assert item["input_ids"].tolist() == [~token if token < 0 else token for token in row]
        assert item["labels"].tolist() == [IGNORED if token < 0 else token for token in row]


def test_no_room_for_the_tokens_is_said(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"cannot be written to .*: No space left on device"):
        Blocks(((np.zeros(100_000, np.int32), 0) for _ in range(3)), 8, file=full)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.txt").write_text(f"Text {number} says: " + "words and words. " * 30, encoding="utf-8")
    return folder


def config_of(*train: Path, block: int = 64, reuse: str = "", base: str = "", vocabulary: int = 320) -> TrainingConfig:
    return TrainingConfig(
        "test",
        data=DataConfig(train=tuple(map(str, train)), block=block),
        tokenizer=TokenizerConfig(reuse, vocabulary),
        model=ModelConfig(base, context=128),
    )


def opened(config: TrainingConfig) -> Data:
    return open_data(config, open_tokenizer(config))


def test_a_folder_of_texts_becomes_rows_of_both_sides(texts: Path) -> None:
    data = opened(config_of(texts))
    assert len(data.train) > 10
    assert len(data.held_out) >= 1
    assert data.train[0]["input_ids"].shape == (64,)
    assert data.train[len(data.train) - 1]["labels"].min() >= 0
    assert "20 documents" not in str(data)
    assert "1 held out" in str(data)


def test_the_same_corpus_has_the_same_fingerprint_and_another_has_another(texts: Path) -> None:
    config = config_of(texts)
    tokenizer = open_tokenizer(config)
    first = open_data(config, tokenizer, texts.parent / "tokens").fingerprint
    assert open_data(config, tokenizer).fingerprint == first
    (texts / "99.txt").write_text("One more.", encoding="utf-8")
    assert open_data(config, tokenizer).fingerprint != first


def test_a_corpus_shorter_than_a_row_says_what_it_has_and_needs(texts: Path) -> None:
    for file in sorted(texts.iterdir())[2:]:
        file.unlink()
    with pytest.raises(
        DataError, match=r"shorter than one row: it has \d+ tokens .* a row needs 4,096; .*`data.block`"
    ):
        opened(config_of(texts, block=4096))


def test_a_new_tokenizer_is_of_the_training_side_and_of_the_kind_of_its_corpus(texts: Path) -> None:
    plain = open_tokenizer(config_of(texts))
    assert plain.chat_template is None
    assert plain.eos_token == "<|endoftext|>"
    assert 259 < len(plain) <= 320
    chat = texts.parent / "chat.jsonl"
    chat.write_text(
        "".join(json.dumps({"prompt": f"{n}?", "completion": "Yes."}) + "\n" for n in range(9)), encoding="utf-8"
    )
    both = open_tokenizer(config_of(texts, chat))
    assert both.chat_template == CHATML
    assert both.eos_token == "<|im_end|>"


def test_chatml_extends_itself(tokenizer: Any) -> None:
    shown = [tokenizer.apply_chat_template(list(CHAT[:length]), tokenize=False) for length in range(1, len(CHAT) + 1)]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(shown))
    asked = tokenizer.apply_chat_template(list(CHAT[:2]), tokenize=False, add_generation_prompt=True)
    assert shown[-1].startswith(asked)
    assert "Be kind." in asked


def test_a_tokenizer_is_reused_by_its_folder_and_else_the_bases(texts: Path) -> None:
    reused, base = (
        open_tokenizer(config) for config in (config_of(texts, reuse=str(GUIDE)), config_of(texts, base=str(GUIDE)))
    )
    assert len(reused) == len(base) == VOCABULARY


def test_a_tokenizer_that_cannot_be_reused_is_named(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the tokenizer \./nowhere is not there"):
        open_tokenizer(config_of(texts, reuse="./nowhere"))
    with pytest.raises(DataError, match="cannot be loaded; its files are missing or broken"):
        open_tokenizer(config_of(texts, reuse=str(tmp_path)))
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be loaded; its files are missing or broken"):
        open_tokenizer(config_of(texts, reuse=str(tmp_path)))
