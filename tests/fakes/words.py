"""What the fake Ollama says, and how it counts: short messages that begin with ! make it misbehave on purpose.

!words N        N words, at its speed            !nodelay N     N words with no delay at all
!echo TEXT      TEXT                             !code          a fenced code block
!markdown       headings, a list, a link         !think N       N words of reasoning, then an answer
!repeat         ends without a `done` line       !die           its model process dies in mid-stream
!die-prefill    ... before the first token       !die-loading   ... while loading
!oom            not enough memory to load        !500           an internal error
!error TEXT     an error line in mid-stream      !cut           the connection breaks in mid-stream
!hang           silence before the first token   !freeze        silence in mid-stream
!call NAME ARGUMENTS    asks for that function, if the request offers any; more lines of that kind: for all of them

Anything else is answered by "You said: " and the message. !die-loading and !oom are met only where the model has to
be loaded for that message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

_TOKEN: Final = re.compile(r"\w{1,6}|[^\w\s]|\n")
# The same tokens, each with the blanks before it, so that they join to the text again.
_PIECE: Final = re.compile(r"[^\S\n]*(?:\w{1,6}|[^\w\s]|\n)|[^\S\n]+\Z")
_VOCABULARY: Final = tuple("the quick brown fox jumps over a lazy dog and then it rests by the river".split())  # noqa: SIM905

MARKDOWN: Final = "# Title\n\n- one\n- **two**\n\n[a link](https://example.org) and `code`"
CODE: Final = 'Here it is:\n\n```python\ndef hello() -> None:\n    print("hello")\n```\n\nThat is all.'
# Equal tokens that are still sent before Ollama's guard against repetition ends the stream, as recorded.
REPEATED: Final = 31

_TURN: Final = ("<start_of_turn>",)
_END: Final = ("<end_of_turn>", "\n")
_ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "system": ("sys", "tem", "\n"),
    "user": ("us", "er", "\n"),
    "assistant": ("mo", "del", "\n"),
    "tool": ("to", "ol", "\n"),
}


def tokens_of(text: str) -> list[str]:
    """The tokens of a text: pieces of words, signs, line ends."""
    return _TOKEN.findall(text)


def prompt_of(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tokens of a whole prompt. One of a longer conversation extends that of a shorter one and its reply.

    As recorded: 11 tokens around a single message; a message of an unknown role is left out; after a last message
    of the assistant the model goes on with that text.
    """
    known = [message for message in messages if message.get("role") in _ROLES]
    prompt = ["<bos>"]
    for message in known or [{"role": "user"}]:
        prompt += [*_TURN, *_ROLES[message["role"]], *tokens_of(message.get("content") or ""), *_END]
    if known and known[-1]["role"] == "assistant":
        return prompt[: -len(_END)]
    return [*prompt, *_TURN, *_ROLES["assistant"]]


def count_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """What the fake reports as prompt_eval_count."""
    return len(prompt_of(messages))


class Fault(StrEnum):
    """How a reply goes wrong: this module's table without its signs."""

    REPEAT = "repeat"
    DIE = "die"
    DIE_PREFILL = "die-prefill"
    DIE_LOADING = "die-loading"
    OOM = "oom"
    INTERNAL = "500"
    ERROR = "error"
    CUT = "cut"
    HANG = "hang"
    FREEZE = "freeze"


# They strike after the last but one line of the reply.
MID_STREAM: Final = (Fault.DIE, Fault.ERROR, Fault.CUT, Fault.FREEZE)


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say and how to end.

    Attributes:
        pieces: one line each.
        thinking: lines of reasoning before them, for a request that asks to think.
        fault: how it goes wrong; None: it does not.
        delay: whether reading and writing take their time.
        words: of an error.
        calls: functions that it asks for after its text, as /api/chat writes them.
    """

    pieces: tuple[str, ...]
    thinking: tuple[str, ...] = ()
    fault: Fault | None = None
    delay: bool = True
    words: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()


def reply_to(message: str) -> Reply:
    """What the fake answers to a visitor's message."""
    command, _, rest = message.strip().partition(" ")
    number = int(rest) if rest.strip().isdecimal() else 20
    match command:
        case "!words":
            return Reply(_words(number))
        case "!nodelay":
            return Reply(_words(number), delay=False)
        case "!echo":
            return Reply(_pieces(rest))
        case "!call":
            return Reply((), calls=_calls(message))
        case "!code":
            return Reply(_pieces(CODE))
        case "!markdown":
            return Reply(_pieces(MARKDOWN))
        case "!think":
            return Reply(_pieces("The answer is forty-two."), thinking=_words(number))
        case "!repeat":
            return Reply((*_words(5), *[" aspg"] * REPEATED), fault=Fault.REPEAT)
        case "!die" | "!cut" | "!freeze" | "!error":
            return Reply(_words(8), fault=Fault(command[1:]), words=rest or "something went wrong")
        case "!500":
            return Reply((), fault=Fault.INTERNAL, words="something inside failed")
        case "!die-prefill" | "!die-loading" | "!oom" | "!hang":
            return Reply((), fault=Fault(command[1:]))
        case _:
            return plain(message)


def plain(message: str) -> Reply:
    """What it answers to a message that asks for nothing special."""
    return Reply(_pieces(f"You said: {message}"))


def rest_of(pieces: Sequence[str], begun: str) -> tuple[str, ...]:
    """What is left of a reply after its beginning; all of it where it begins otherwise."""
    for number in range(1, len(pieces) + 1):
        if "".join(pieces[:number]).rstrip() == begun.rstrip():
            return tuple(pieces[number:])
    return tuple(pieces)


def said(text: str) -> tuple[str, ...]:
    """A text in the pieces in which it is written."""
    return _pieces(text)


def _calls(message: str) -> tuple[Mapping[str, Any], ...]:
    calls = []
    for index, line in enumerate(message.strip().splitlines()):
        _, name, arguments = [*line.split(" ", 2), "{}"][:3]
        function = {"index": index, "name": name, "arguments": json.loads(arguments)}
        calls.append({"id": f"call_{index:08d}", "function": function})
    return tuple(calls)


def _words(number: int) -> tuple[str, ...]:
    return tuple(f"{' ' if n else ''}{_VOCABULARY[n % len(_VOCABULARY)]}" for n in range(number))


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(_PIECE.findall(text))
