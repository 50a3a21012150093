"""The banner at the top of the page: which model answers, why, how to change it, what is being downloaded."""

from __future__ import annotations

from typing import Any, Final

from app.default_model import DefaultModel, Wishes
from app.errors import Language
from app.page.texts import text
from app.why import explain

# What public/custom.js listens for.
MESSAGE_TYPE: Final = "chainlit-ollama/status"


def banner(default: DefaultModel, wishes: Wishes, language: Language, *, kept: bool = True) -> dict[str, Any]:
    """The message for the page's script; see public/page/banner.js for its fields.

    Args:
        default, wishes, language: see `explain`.
        kept: whether conversations are.
    """
    words = explain(default, wishes, language)
    details = [*words.details, *([] if kept else [text(language, "history_off")])]
    download = default.download
    return {
        "type": MESSAGE_TYPE,
        "language": language,
        "text": words.text,
        "details": details,
        "level": words.level,
        "dismissable": download is None,
        "progress": download
        and {
            "label": download.model,
            "completed": download.progress.completed,
            "total": download.progress.total,
        },
    }
