"""Stop texts, in replies that are broken anywhere."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines.stop_text import StopSplitter

TEXT = st.text(alphabet="abc\n", max_size=30)
STOPS = st.lists(st.text(alphabet="abc\n", min_size=1, max_size=4), max_size=3)


def let_through(stops: Sequence[str], pieces: Sequence[str]) -> tuple[str, bool]:
    splitter = StopSplitter(stops)
    text = "".join(splitter.feed(piece) for piece in pieces)
    return text + splitter.flush(), splitter.stopped


def first_complete(stops: Sequence[str], text: str) -> str | None:
    """The text before the first stop text that is complete; None: there is none."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - len(max(found, key=len))]
    return None


@given(text=TEXT, stops=STOPS, cuts=st.lists(st.integers(0, 30)))
def test_a_text_ends_before_its_first_stop_text_wherever_it_is_broken(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    pieces = [text[begin:end] for begin, end in itertools.pairwise(places)]
    before = first_complete(stops, text)
    assert let_through(stops, pieces) == ((text, False) if before is None else (before, True))


@given(text=TEXT, stops=STOPS)
def test_what_is_held_back_is_never_more_than_could_be_a_stop_text(text: str, stops: list[str]) -> None:
    splitter = StopSplitter(stops)
    came = ""
    for sign in text:
        came += splitter.feed(sign)
        if splitter.stopped:
            return
        held = text[len(came) : len(came) + len(splitter.flush())]
        assert not held or any(len(held) < len(stop) and stop.startswith(held) for stop in stops)
        splitter.feed(held)


@pytest.mark.parametrize("stops", [(), ("",)])
def test_without_stop_texts_nothing_is_held_back(stops: tuple[str, ...]) -> None:
    splitter = StopSplitter(stops)
    assert splitter.feed("abc") == "abc"
    assert not splitter.stopped


def test_nothing_comes_after_a_stop_text() -> None:
    splitter = StopSplitter(["END"])
    assert [splitter.feed(piece) for piece in ("one E", "ND two", "three")] == ["one ", "", ""]
    assert splitter.flush() == ""
