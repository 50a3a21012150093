"""The lines of /api/chat and /api/generate, with their keys in Ollama's order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from tests.fakes.exchange import PLAIN_JSON, Refused

_NANO: Final = 1_000_000_000

# The model process died before or during a reply, and while it loaded.
DIED: Final = "an error was encountered while running the model: unexpected EOF"
DIED_LOADING: Final = "llama-server process has terminated: signal: killed"
OUT_OF_MEMORY: Final = "model requires more system memory (9.1 GiB) than is available (2.0 GiB)"


@dataclass(slots=True)
class Measured:
    """What a reply took: durations in seconds, sizes in tokens."""

    waited: float = 0
    load: float = 0
    prompt_tokens: int = 0
    prompt: float = 0
    reply_tokens: int = 0
    generation: float = 0

    def counts(self) -> dict[str, int]:
        """As the last line has them: in nanoseconds, zeros left out. Waiting is in the total alone."""
        total = self.waited + self.load + self.prompt + self.generation
        counts = {
            "total_duration": round(total * _NANO),
            "load_duration": round(self.load * _NANO),
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": round(self.prompt * _NANO),
            "eval_count": self.reply_tokens,
            "eval_duration": round(self.generation * _NANO),
        }
        return {key: value for key, value in counts.items() if value}


def go_time(moment: datetime) -> str:
    """A time in UTC as Go writes it, with nanoseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


@dataclass(frozen=True, slots=True)
class Piece:
    """What one line holds: text, or calls of functions, or the reason of the end."""

    content: str = ""
    thinking: str = ""
    calls: Sequence[Mapping[str, Any]] = ()
    reason: str = ""


def message_line(name: str, piece: Piece, measured: Measured | None = None) -> dict[str, Any]:
    """A line of /api/chat; with a reason, a last line.

    No call of a function was recorded; the shape is that of docs.ollama.com/capabilities/tool-calling.
    """
    message: dict[str, Any] = {"role": "assistant", "content": piece.content}
    if piece.thinking:
        message["thinking"] = piece.thinking
    if piece.calls:
        message["tool_calls"] = list(piece.calls)
    return _line(name, {"message": message}, piece, measured)


def response_line(
    name: str, piece: Piece, measured: Measured | None = None, *, context: Sequence[int] = ()
) -> dict[str, Any]:
    """A line of /api/generate. `context`: the conversation in tokens, for the last line of one that is not raw."""
    said = {"response": piece.content} | ({"thinking": piece.thinking} if piece.thinking else {})
    return _line(name, said, piece, measured, {"context": list(context)} if context and piece.reason else {})


def _line(
    name: str, said: dict[str, Any], piece: Piece, measured: Measured | None, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    line = {"model": name, "created_at": go_time(datetime.now(UTC)), **said, "done": bool(piece.reason)}
    if piece.reason:
        line["done_reason"] = piece.reason
    return line | (more or {}) | (measured.counts() if measured else {})


def too_long(tokens: int, context: int) -> Refused:
    """The refusal of `truncate: false`, which is llama-server's own, as text, inside Ollama's."""
    words = f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
    refusal = {"code": 400, "message": words, "type": "exceed_context_size_error"}
    text = json.dumps({"error": refusal | {"n_prompt_tokens": tokens, "n_ctx": context}}, separators=(",", ":"))
    return Refused(400, text, content_type=PLAIN_JSON, chunked=True)


def died() -> Refused:
    """The model process was killed under a request."""
    return Refused(500, DIED, content_type=PLAIN_JSON, chunked=True)
