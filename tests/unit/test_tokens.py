"""Token counts of text that no engine has seen yet."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.tokens import MESSAGE_OVERHEAD, TokenEstimator, bytes_estimate, tiktoken_estimate


@given(st.text(max_size=300))
def test_every_text_has_an_estimate(text: str) -> None:
    assert TokenEstimator().estimate("m", text) >= MESSAGE_OVERHEAD


def test_the_estimate_follows_what_a_models_replies_have_shown() -> None:
    estimator, text = TokenEstimator(), "several words of an ordinary kind " * 10
    exact = 2 * bytes_estimate(text)
    for _ in range(5):
        estimator.learn("m", text, exact)
    assert exact <= estimator.estimate("m", text) <= 1.2 * exact
    assert estimator.estimate("other", text) == bytes_estimate(text) + MESSAGE_OVERHEAD


def test_the_scale_moves_in_steps_so_that_windows_do_not_wander() -> None:
    estimator, text = TokenEstimator(), "several words of an ordinary kind " * 10
    seen = set()
    for n in range(40):
        estimator.learn("m", text, round(bytes_estimate(text) * (1.30 + 0.02 * (n % 3))))
        if n > 5:
            seen.add(estimator.estimate("m", text))
    assert len(seen) == 1


def test_short_texts_teach_nothing() -> None:
    estimator = TokenEstimator()
    estimator.learn("m", "ok", 400)
    assert estimator.estimate("m", "ok") == bytes_estimate("ok") + MESSAGE_OVERHEAD


def test_tiktoken_is_used_only_when_its_table_is_on_disk(tmp_path: Path) -> None:
    assert tiktoken_estimate(None) is None
    assert tiktoken_estimate(tmp_path) is None
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_bytes(b"not the table")
    assert tiktoken_estimate(tmp_path) is None
