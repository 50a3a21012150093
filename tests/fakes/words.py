"""What the fake Ollama says, and how it counts: short messages that begin with ! make it misbehave on purpose.

!words N        N words, at its speed            !nodelay N     N words with no delay at all
!echo TEXT      TEXT                             !code          a fenced code block
!markdown       headings, a list, a link         !think N       N words of reasoning, then an answer
!repeat         ends without a `done` line       !die           its model process dies in mid-stream
!die-prefill    ... before the first token       !die-loading   ... while loading
!oom            not enough memory to load        !500           an internal error
!error TEXT     an error line in mid-stream      !cut           the connection breaks in mid-stream
!hang           silence before the first token   !freeze        silence in mid-stream
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_PIECE: Final = re.compile(r"\w{1,6}|[^\w\s]|\n")
_VOCABULARY: Final = tuple("the quick brown fox jumps over a lazy dog and then it rests by the river".split())  # noqa: SIM905

MARKDOWN: Final = "# Title\n\n- one\n- **two**\n\n[a link](https://example.org) and `code`"
CODE: Final = 'Here it is:\n\n```python\ndef hello() -> None:\n    print("hello")\n```\n\nThat is all.'

# Around each message, and once in each prompt.
MESSAGE_TOKENS: Final = 4
PROMPT_TOKENS: Final = 3


def tokens_of(text: str) -> list[str]:
    """The tokens of a text: pieces of words, signs, line ends."""
    return _PIECE.findall(text)


def prompt_of(messages: Sequence[dict[str, Any]]) -> list[str]:
    """The tokens of a whole prompt. One of a longer conversation extends that of a shorter one."""
    prompt = ["<bos>"]
    for message in messages:
        prompt += [f"<{message.get('role')}>", "\n", *tokens_of(message.get("content") or ""), "<end>", "\n"]
    return [*prompt, "<assistant>", "\n"]


def count_tokens(messages: Sequence[dict[str, Any]]) -> int:
    """What the fake reports as prompt_eval_count."""
    return len(prompt_of(messages))


@dataclass(frozen=True, slots=True)
class Reply:
    """What to say and how to end.

    Attributes:
        pieces: one line each.
        thinking: lines of reasoning before them.
        fault: how it goes wrong, a word of this module's table without its sign; empty: it does not.
        delay: whether each line takes its time.
        words: of an error.
    """

    pieces: tuple[str, ...]
    thinking: tuple[str, ...] = ()
    fault: str = ""
    delay: bool = True
    words: str = ""


def reply_to(message: str) -> Reply:
    """What the fake answers to a visitor's message."""
    command, _, rest = message.strip().partition(" ")
    number = int(rest) if rest.strip().isdigit() else 20
    match command:
        case "!words":
            return Reply(_words(number))
        case "!nodelay":
            return Reply(_words(number), delay=False)
        case "!echo":
            return Reply(_pieces(rest))
        case "!code":
            return Reply(_pieces(CODE))
        case "!markdown":
            return Reply(_pieces(MARKDOWN))
        case "!think":
            return Reply(_pieces("The answer is forty-two."), thinking=_words(number))
        case "!die" | "!cut" | "!freeze" | "!error":
            return Reply(_words(8), fault=command[1:], words=rest)
        case "!repeat":
            return Reply((*_words(5), *[" aspg"] * 30), fault="repeat")
        case "!die-prefill" | "!die-loading" | "!oom" | "!500" | "!hang":
            return Reply((), fault=command[1:])
        case _:
            return Reply(_pieces(f"You said: {message}"))


def _words(number: int) -> tuple[str, ...]:
    return tuple(f"{' ' if n else ''}{_VOCABULARY[n % len(_VOCABULARY)]}" for n in range(number))


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\s*\S+|\s+$", text))
