"""Text from tokens as they come: whole letters only, and nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines.local_text import TextStream
from app.settings import GUIDE_DIR


class Bytes:
    """A tokenizer whose tokens are bytes, and 256 a special one."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return bytes(token for token in ids if token < 256).decode(errors="replace")


class Words:
    """A tokenizer as SentencePiece's: a blank at the very beginning of a text is left out."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        return "".join(f" {token}" for token in ids)[1:]


def pieces_of(tokenizer: Bytes | Words, ids: list[int]) -> list[str]:
    pieces: list[str] = []
    stream = TextStream(tokenizer, pieces.append)
    for token in ids:
        stream.add(token)
    stream.end()
    return pieces


@given(st.text())
def test_any_text_comes_whole_and_in_whole_letters(text: str) -> None:
    pieces = pieces_of(Bytes(), list(text.encode(errors="replace")))
    assert "".join(pieces) == text.encode(errors="replace").decode()
    assert all(pieces)


@given(st.text(alphabet="aя€😀👩‍👩‍👧é", min_size=1))
def test_a_letter_is_passed_on_with_its_last_byte(text: str) -> None:
    letters: list[str] = []
    stream = TextStream(Bytes(), letters.append)
    for letter in text:
        for byte in letter.encode():
            stream.add(byte)
        assert "".join(letters).endswith(letter)
    assert letters == list(text)


@given(st.lists(st.integers(0, 256)))
def test_broken_bytes_and_special_tokens_come_as_decoding_them_at_once_gives(ids: list[int]) -> None:
    assert "".join(pieces_of(Bytes(), ids)) == Bytes().decode(ids, skip_special_tokens=True)


@given(st.lists(st.integers(0, 999)))
def test_blanks_between_words_stay(ids: list[int]) -> None:
    assert "".join(pieces_of(Words(), ids)) == Words().decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    "text", ["Запустите `make run` в папке.\n\nИ всё! 👍🏽", "plain words\n\n  indented\ttoo", "naïve café 你好 🇷🇺"]
)
def test_the_guides_own_tokenizer_gives_the_same_text_streamed_and_at_once(text: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (make install-local)")
    tokenizer = transformers.AutoTokenizer.from_pretrained(GUIDE_DIR, local_files_only=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = pieces_of(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
    assert "\ufffd" not in "".join(pieces)
    assert len(pieces) > 5
