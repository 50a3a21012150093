"""Reasoning told apart from the answer, however the reply is broken into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines.base import Delta
from app.engines.reasoning import ThinkSplitter

# Replies made of what matters here: whole and broken tags, white space, words.
REPLIES = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "</", "ink>", "<", ">", " ", "\n", "a", "two words", "ё"]),
    max_size=12,
).map("".join)


def split(pieces: list[str], *, inside: bool = False) -> list[Delta]:
    splitter = ThinkSplitter(inside=inside)
    return [delta for piece in pieces for delta in splitter.feed(piece)] + splitter.flush()


def joined(deltas: list[Delta]) -> tuple[str, str]:
    """The reasoning and the answer."""
    reasoning, answer = ("".join(d.text for d in deltas if d.kind == kind) for kind in ("reasoning", "answer"))
    return reasoning, answer


def told_apart(reply: str, *, inside: bool) -> tuple[str, str]:
    """The same by looking at the whole reply at once."""
    if not inside:
        if not reply.lstrip().startswith("<think>"):
            return "", reply
        reply = reply.lstrip().removeprefix("<think>")
    reasoning, _, answer = reply.lstrip().partition("</think>")
    return reasoning, answer.lstrip()


@given(REPLIES, st.lists(st.integers(0, 60), max_size=12), st.booleans())
def test_any_split_into_pieces_gives_the_same_texts(reply: str, cuts: list[int], inside: bool) -> None:
    edges = [0, *sorted(min(cut, len(reply)) for cut in cuts), len(reply)]
    pieces = [reply[a:b] for a, b in pairwise(edges)]
    deltas = split(pieces, inside=inside)
    assert joined(deltas) == told_apart(reply, inside=inside)
    assert all(delta.text for delta in deltas)


@given(REPLIES, st.booleans())
def test_one_character_at_a_time_gives_the_same_texts(reply: str, inside: bool) -> None:
    assert joined(split(list(reply), inside=inside)) == told_apart(reply, inside=inside)


@given(REPLIES, st.booleans())
def test_all_reasoning_comes_before_the_answer(reply: str, inside: bool) -> None:
    kinds = [delta.kind for delta in split(list(reply), inside=inside)]
    assert kinds == sorted(kinds, key=["reasoning", "answer"].index)


def test_a_block_at_the_start_is_reasoning() -> None:
    assert joined(split(["<think>\nSo", " it is.\n</think>\n\n", "Yes."])) == ("So it is.\n", "Yes.")


def test_tags_may_be_broken_anywhere() -> None:
    assert joined(split(["<", "thi", "nk>a", "</", "think", ">b"])) == ("a", "b")


def test_a_later_tag_is_text() -> None:
    reply = "Models write <think> and </think>."
    assert joined(split([reply])) == ("", reply)


def test_a_second_block_is_text() -> None:
    assert joined(split(["<think>a</think>b <think>c</think>"])) == ("a", "b <think>c</think>")


def test_a_block_that_is_never_closed_is_reasoning_to_its_end() -> None:
    assert joined(split(["<think>still at it </thi"])) == ("still at it </thi", "")


def test_an_empty_block_leaves_no_trace() -> None:
    assert split(["<think>", "\n\n", "</think>", "\n\n", "Yes."]) == [Delta("Yes.")]


def test_a_block_that_the_prompt_has_opened_begins_at_once() -> None:
    assert joined(split(["So it is.", "</think>", "Yes."], inside=True)) == ("So it is.", "Yes.")


def test_a_beginning_that_is_no_tag_after_all_is_text() -> None:
    assert joined(split(["<thi", "s>"])) == ("", "<this>")
    assert joined(split([" <thi"])) == ("", " <thi")


@pytest.mark.parametrize("first", ["Yes", " Yes", "<b>"])
def test_an_answer_is_not_held_back(first: str) -> None:
    assert ThinkSplitter().feed(first) == [Delta(first)]


def test_reasoning_is_not_held_back() -> None:
    splitter = ThinkSplitter()
    splitter.feed("<think>")
    assert splitter.feed("So") == [Delta("So", "reasoning")]
