"""A document: what a corpus is made of, and what is held out as a whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from training.data.errors import DataError

ROLES: Final = ("system", "user", "assistant")
SHAPES: Final = (
    '{"messages": [{"role": ..., "content": ...}]}, {"text": ...}, {"prompt": ..., "completion": ...}, '
    "or a line of this program's feedback export"
)

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Document:
    """A text, or a conversation that ends with an answer.

    Attributes:
        text: plain text; empty for a conversation.
        messages: of a conversation, by OpenAI's names; empty for a text.
        last_only: only the last answer is learnt, as nobody has said that the others are good.
        continues: it goes on where the document before it in the same file ended.
        key: what decides whether it is held out; documents of one key are on one side.
    """

    text: str = ""
    messages: tuple[Message, ...] = ()
    last_only: bool = False
    continues: bool = False
    key: str = ""

    @property
    def digest(self) -> bytes:
        """The same for the same content."""
        return _hash(json.dumps(self.messages, ensure_ascii=False, sort_keys=True) if self.messages else self.text)

    @property
    def place(self) -> float:
        """Where it stands between 0 and 1, by its key alone, so that it stays there when other files are added."""
        key = self.key or (
            json.dumps(self.messages, ensure_ascii=False, sort_keys=True) if self.messages else self.text
        )
        return int.from_bytes(_hash(key)[:7], "big") / 2**56


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def document_of(line: dict[str, Any], where: str) -> Document | None:
    """A line of JSON as a document; None for a reply with its thumb down.

    Args:
        line: the object.
        where: file and line, for the message.

    Raises:
        DataError: its shape is unknown, or a part has the wrong type.
    """
    if "thumb" in line and "reply" in line:
        return _feedback(line, where)
    if "messages" in line:
        return Document(messages=_conversation(line["messages"], where))
    if "prompt" in line and "completion" in line:
        question, answer = (_text(line[key], f"{where}: `{key}`") for key in ("prompt", "completion"))
        return Document(messages=({"role": "user", "content": question}, {"role": "assistant", "content": answer}))
    if "text" in line:
        return Document(text=_text(line["text"], f"{where}: `text`"))
    keys = ", ".join(sorted(line)) or "none"
    raise DataError(f"{where}: a line with the keys {keys} is not known; a line is one of {SHAPES}")


def _feedback(line: dict[str, Any], where: str) -> Document | None:
    """What `python -m app.feedback` writes. Replies with the thumb up are learnt as they are; what a comment says
    should have been the reply is not known, so the others are left out."""
    if line["thumb"] not in ("up", "down"):
        raise DataError(f"{where}: `thumb` is {line['thumb']!r}; it is up or down")
    if line["thumb"] == "down":
        return None
    before = line.get("messages") or []
    question, answer = (_text(line.get(key), f"{where}: `{key}`") for key in ("prompt", "reply"))
    asked = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    messages = (*(_messages(before, where) if before else ()), *asked)
    # A later thumb of the same conversation has this one's reply in it.
    return Document(messages=messages, last_only=True, key=messages[0]["content"])


def _conversation(value: object, where: str) -> tuple[Message, ...]:
    """The messages up to the last answer; what comes after it has nothing to learn."""
    messages = _messages(value, where)
    answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise DataError(f"{where}: the conversation has no message of the assistant, so there is nothing to learn")
    return messages[: answers[-1] + 1]


def _messages(value: object, where: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: `messages` is not a list of messages")
    found: list[Message] = []
    for number, message in enumerate(value, 1):
        if not isinstance(message, dict):
            raise DataError(f'{where}: message {number} is not {{"role": ..., "content": ...}}')
        if message.get("role") not in ROLES:
            raise DataError(f"{where}: the role of message {number} is {message.get('role')!r}, not {', '.join(ROLES)}")
        content = _text(message.get("content"), f"{where}: the content of message {number}")
        found.append({"role": message["role"], "content": content})
    return tuple(found)


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is not a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        # JSON can write half of a pair, as "\ud83d".
        raise DataError(f"{what} has half of a surrogate pair, which is no character; write it whole") from None
    return value
