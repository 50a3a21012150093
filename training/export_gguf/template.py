"""A chat template of transformers (Jinja) as one of Ollama (Go), by looking at what it writes.

Ollama runs no Jinja. Most templates put fixed words before and after each message; these words are found by rendering
conversations, and are taken only if put together they give just what the template gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Messages = Sequence[Mapping[str, str]]
Render = Callable[[Messages, bool], str]

# No template means these, and none is a part of another. Small letters alone: some templates make letters small.
_SYSTEM, _FIRST, _ANSWER, _SECOND = "kestrel", "marmot", "walrus", "ocelot"
_LIVELY: Final = " Is THIS it? Yes! "


@dataclass(frozen=True, slots=True)
class Around:
    """The words before and after a message."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """What is written around the messages of a conversation.

    Attributes:
        start: before all of it.
        system: around what the operator says; None: such messages cannot be written.
        user: around a user's message.
        assistant: around a reply.
        prompt: what a reply follows.
        faithful: whether a user's words stay as they are.
    """

    start: str
    system: Around | None
    user: Around
    assistant: Around
    prompt: str
    faithful: bool

    def render(self, messages: Messages) -> str:
        """The conversation up to where a reply begins."""
        text = self.start
        for message in messages:
            around = {"system": self.system, "user": self.user, "assistant": self.assistant}[message["role"]]
            text += around.before + message["content"] + around.after if around else ""
        return text + self.prompt

    def in_go(self, *, without_start: str = "") -> str | None:
        """As Ollama's TEMPLATE; None where its words cannot stand in one.

        Args:
            without_start: what the tokenizer puts before a text by itself, so that it is not there twice.

        Source: docs/template.mdx of Ollama: `.Messages` with `.Role` and `.Content`; the last message may be a reply to
        be gone on with.
        """
        roles = [("system", self.system), ("user", self.user)]
        parts = [
            f'{{{{ {"else " if number else ""}if eq .Role "{role}" }}}}{around.before}{{{{ .Content }}}}{around.after}'
            for number, (role, around) in enumerate((role, around) for role, around in roles if around)
        ]
        text = (
            self.start.removeprefix(without_start)
            + "{{ range $index, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $index)) 1 }}"
            + "".join(parts)
            + f'{{{{ else if eq .Role "assistant" }}}}{self.assistant.before}{{{{ .Content }}}}'
            + f"{{{{ if not $last }}}}{self.assistant.after}{{{{ end }}}}{{{{ end }}}}"
            + f'{{{{ if and $last (ne .Role "assistant") }}}}{self.prompt}{{{{ end }}}}{{{{ end }}}}'
        )
        words = [self.start, self.prompt]
        for around in (self.system, self.user, self.assistant):
            words += [around.before, around.after] if around else []
        return None if any("{{" in word or '"""' in word for word in words) else text


def template_of(tokenizer: Any) -> ChatTemplate | None:
    """What a tokenizer's template writes around messages; None where it is more than fixed words."""

    def render(messages: Messages, prompt: bool) -> str:
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=prompt
        )
        return text

    return _found(render)


def _found(render: Render) -> ChatTemplate | None:
    first, answer, second, system = (
        {"role": role, "content": content}
        for role, content in (("user", _FIRST), ("assistant", _ANSWER), ("user", _SECOND), ("system", _SYSTEM))
    )
    whole = _split(render, [first, answer, second], prompt=True)
    one = _split(render, [first], prompt=False)
    two = _split(render, [first, answer], prompt=False)
    if whole is None or one is None or two is None:
        return None
    head, after_first, after_answer, rest = whole
    user_after, assistant_after = one[-1], two[-1]
    if not (after_first.startswith(user_after) and after_answer.startswith(assistant_after)):
        return None
    user_before = after_answer[len(assistant_after) :]
    if not (head.endswith(user_before) and rest.startswith(user_after)):
        return None
    start = head[: len(head) - len(user_before)]
    user = Around(user_before, user_after)
    found = ChatTemplate(
        start=start,
        system=_system(render, [system, first], start, user_before),
        user=user,
        assistant=Around(after_first[len(user_after) :], assistant_after),
        prompt=rest[len(user_after) :],
        faithful=True,
    )
    told = [system] if found.system else []
    for messages in ([*told, first], [*told, first, answer, second, answer, first]):
        if found.render(messages) != _rendered(render, messages, prompt=True):
            return None
    lively = [{"role": "user", "content": _LIVELY}]
    if found.render(lively) == _rendered(render, lively, prompt=True):
        return found
    return ChatTemplate(found.start, found.system, found.user, found.assistant, found.prompt, faithful=False)


def _system(render: Render, messages: Messages, start: str, user_before: str) -> Around | None:
    parts = _split(render, messages, prompt=True)
    if parts is None or not (parts[0].startswith(start) and parts[1].endswith(user_before)):
        return None
    return Around(parts[0][len(start) :], parts[1][: len(parts[1]) - len(user_before)])


def _split(render: Render, messages: Messages, *, prompt: bool) -> list[str] | None:
    """What stands before, between and after the messages' contents."""
    text = _rendered(render, messages, prompt=prompt)
    parts = []
    for message in messages:
        before, content, text = (text or "").partition(message["content"])
        if not content:
            return None
        parts.append(before)
    return [*parts, text or ""]


def _rendered(render: Render, messages: Messages, *, prompt: bool) -> str | None:
    from jinja2 import TemplateError

    try:
        return render(messages, prompt)
    except (TemplateError, ValueError, TypeError):
        return None
