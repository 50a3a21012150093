"""What the steps of a stored conversation are: questions, answers, reasoning, and the page's own notices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# A step's type, in Chainlit's words.
QUESTION_TYPE: Final = "user_message"
ANSWER_TYPE: Final = "assistant_message"
REASONING_TYPE: Final = "llm"

# Where a step's metadata holds what is ours.
TOKENS: Final = "tokens"
LEFT_OUT: Final = "left_out"
NOTICE: Final = "notice"
MODEL: Final = "model"
METRICS: Final = "metrics"
# The message that a step answers: with two pages open, others may have come in between.
QUESTION: Final = "question"
# Where a thread's metadata does.
SETTINGS: Final = "settings"


def is_answer(kind: str, text: str, metadata: Mapping[str, Any], *, is_error: bool) -> bool:
    """Whether a step is what a model has answered, which the next question is read with.

    Args:
        kind: its type.
        text: its output.
        metadata: its own.
        is_error: whether it tells of a failure.
    """
    return kind == ANSWER_TYPE and not is_error and not metadata.get(NOTICE) and bool(text)
