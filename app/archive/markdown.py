"""A conversation as Markdown, to be read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from app.errors import Language
from app.storage.records import Conversation, Step
from app.transcript import ANSWER_TYPE, MODEL, QUESTION_TYPE, REASONING_TYPE

_WORDS: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "untitled": "Conversation",
        "you": "You",
        "model": "Model",
        "begun": "Begun {first}, last used {last}.",
        "reasoning": "Reasoning",
        "up": "👍",
        "down": "👎",
    },
    "ru": {
        "untitled": "Беседа",
        "you": "Вы",
        "model": "Модель",
        "begun": "Начата {first}, последнее сообщение {last}.",
        "reasoning": "Размышление",
        "up": "👍",
        "down": "👎",
    },
}
# How a block of code begins and ends: https://spec.commonmark.org/0.31.2/#fenced-code-blocks
_FENCE: Final = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)")
_MARKS: Final = re.compile(r"([\\`*_{}\[\]<>#|~])")


def to_markdown(conversation: Conversation, language: Language) -> str:
    """Title, dates, and every message under its speaker. What was said stands as it was said, to the letter.

    Args:
        conversation: any.
        language: of the words around it. Times are UTC.
    """
    return "\n".join(_lines(conversation, _WORDS[language]))


def _lines(conversation: Conversation, words: Mapping[str, str]) -> Iterator[str]:
    thread = conversation.thread
    yield f"# {_escaped(thread.name or words['untitled'])}"
    yield ""
    yield words["begun"].format(first=_time(thread.created_at), last=_time(thread.updated_at))
    for step in conversation.steps:
        if not step.output:
            continue
        yield ""
        if step.type == REASONING_TYPE:
            yield from _folded(step.output, words["reasoning"])
            continue
        yield f"## {_speaker(step, words)}"
        yield ""
        yield from _whole(step.output)
        thumb = conversation.thumbs.get(step.id)
        if thumb is not None:
            comment = " ".join((thumb.comment or "").split())
            yield ""
            yield f"> {words['up' if thumb.value else 'down']} {_escaped(comment)}".rstrip()
    yield ""


def _speaker(step: Step, words: Mapping[str, str]) -> str:
    """`gemma2:2b · 2026-11-20 08:00 UTC`."""
    if step.type == QUESTION_TYPE:
        who = words["you"]
    elif step.type == ANSWER_TYPE:
        who = str(step.metadata.get(MODEL) or step.name or words["model"])
    else:
        who = step.name or step.type
    at = step.created_at or step.started_at
    return " · ".join(filter(None, [_escaped(" ".join(who.split())), _time(at) if at else ""]))


def _folded(text: str, summary: str) -> Iterator[str]:
    # Without the empty lines Markdown would not be read inside.
    yield f"<details><summary>{summary}</summary>"
    yield ""
    yield from _whole(text)
    yield ""
    yield "</details>"


def _whole(text: str) -> Iterator[str]:
    """The text, and what closes a block of code in which it was broken off: the rest would be taken for code."""
    yield text
    fence = ""
    for line in text.splitlines():
        found = _FENCE.match(line)
        if found is None:
            continue
        marks, after = found.groups()
        if not fence:
            fence = marks
        elif marks[0] == fence[0] and len(marks) >= len(fence) and not after.strip():
            fence = ""
    if fence:
        yield fence


def _time(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _escaped(text: str) -> str:
    """A name that stays what it is where Markdown is drawn."""
    return _MARKS.sub(r"\\\1", text)
