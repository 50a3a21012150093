"""The banner at the top of the page: which model answers, why, how to change it, what is being downloaded."""

from __future__ import annotations

from typing import Any, Final

from app.default_model import DefaultModel, Wishes
from app.errors import Language
from app.why import explain

# What public/custom.js listens for.
MESSAGE_TYPE: Final = "chainlit-ollama/status"


def banner(default: DefaultModel, wishes: Wishes, language: Language) -> dict[str, Any]:
    """The message for the page's script; see public/custom.js for its fields."""
    words = explain(default, wishes, language)
    download = default.download
    return {
        "type": MESSAGE_TYPE,
        "language": language,
        "text": words.text,
        "details": list(words.details),
        "level": words.level,
        "dismissable": download is None,
        "progress": download
        and {
            "label": download.model,
            "completed": download.progress.completed,
            "total": download.progress.total,
        },
    }
