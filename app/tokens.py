"""Token counts of text that no engine has seen yet.

tiktoken counts when its table is on disk; bytes are counted otherwise. Either is scaled by what the engine has counted:
in the conversation itself, so that the estimate is the same in every process and after a restart; before there is
enough of it, in all that this process has seen of the model. The engine's own count replaces the estimate as soon as
the text was in a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

# English text has about 4 bytes a token with today's vocabularies, code and names fewer.
_BYTES_PER_TOKEN: Final = 3.5
# The chat template's own tokens around one message, e.g. <start_of_turn>user\n ... <end_of_turn>\n.
MESSAGE_OVERHEAD: Final = 8
# The scale moves in steps, so that a small change of what was learned does not move the window.
_STEP: Final = 1.1
# One observation moves the learned ratio by this share.
_WEIGHT: Final = 0.3
_MIN_SAMPLE_TOKENS: Final = 32
_SCALE_BOUNDS: Final = (0.25, 4.0)

# The file that tiktoken keeps of `cl100k_base` in TIKTOKEN_CACHE_DIR: the SHA-1 of its address (tiktoken/load.py).
_TIKTOKEN_ENCODING: Final = "cl100k_base"
_TIKTOKEN_FILE: Final = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
_TIKTOKEN_SHA256: Final = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


def bytes_estimate(text: str) -> int:
    """Tokens of `text`, by its bytes of UTF-8."""
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)


def tiktoken_estimate(cache_dir: Path | None) -> Callable[[str], int] | None:
    """A counter by tiktoken, if its table lies whole in `cache_dir` (TIKTOKEN_CACHE_DIR).

    The table is never fetched: tiktoken would do so on first use, with no time limit (tiktoken #513), and also when the
    file there is not the one that it expects.
    """
    if cache_dir is None:
        return None
    try:
        table = (cache_dir / _TIKTOKEN_FILE).read_bytes()
    except OSError:  # it is not there, or another user's
        return None
    if sha256(table).hexdigest() != _TIKTOKEN_SHA256:
        return None
    import tiktoken

    encoding = tiktoken.get_encoding(_TIKTOKEN_ENCODING)
    return lambda text: len(encoding.encode_ordinary(text))


class Scale:
    """How many times more tokens a conversation has than its raw count. A function of what it was taught, in order."""

    def __init__(self) -> None:
        self._raw = 0
        self._exact = 0
        self.step: int | None = None

    def learn(self, raw: int, exact: int) -> None:
        """A message of `raw` tokens by our count has `exact` ones, the chat template's included."""
        self._raw += raw
        self._exact += max(exact - MESSAGE_OVERHEAD, 0)
        if self._raw >= _MIN_SAMPLE_TOKENS:
            self.step = _step(_bounded(self._exact / self._raw), self.step or 0)


class TokenEstimator:
    """Estimates token counts for every model, and learns from exact ones."""

    def __init__(self, count: Callable[[str], int] = bytes_estimate) -> None:
        self._count = count
        self._ratio: dict[str, float] = {}
        self._step: dict[str, int] = {}

    def count(self, text: str) -> int:
        """Tokens of `text`, as they are counted here: neither scaled nor with the chat template's."""
        return self._count(text)

    def estimate(self, model_id: str, text: str, scale: Scale | None = None) -> int:
        """Tokens of one message with `text`, the chat template's around it included.

        Args:
            model_id: whose.
            text: of the message.
            scale: what the conversation itself has shown; what all have is used where that is nothing yet.
        """
        step = scale.step if scale is not None else None
        if step is None:
            step = self._step.get(model_id, 0)
        return math.ceil(self._count(text) * _STEP**step) + MESSAGE_OVERHEAD

    def learn(self, model_id: str, text: str, exact: int) -> None:
        """An engine has counted: a message with `text` has `exact` tokens by this model."""
        raw = self._count(text)
        if raw < _MIN_SAMPLE_TOKENS:
            return
        seen = _bounded((exact - MESSAGE_OVERHEAD) / raw)
        ratio = self._ratio.get(model_id)
        ratio = seen if ratio is None else ratio + _WEIGHT * (seen - ratio)
        self._ratio[model_id] = ratio
        self._step[model_id] = _step(ratio, self._step.get(model_id, 0))


def _bounded(ratio: float) -> float:
    low, high = _SCALE_BOUNDS
    return min(max(ratio, low), high)


def _step(ratio: float, before: int) -> int:
    """The step of a ratio. Hysteresis: one on the border between two steps does not flicker."""
    wanted = math.log(ratio, _STEP)
    return math.ceil(wanted) if abs(wanted - before) > 0.75 else before
