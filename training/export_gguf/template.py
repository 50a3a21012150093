"""A chat template of transformers (Jinja) as one of Ollama (Go), by looking at what it writes.

Ollama runs no Jinja. Most templates put fixed words before and after each message; these words are found by rendering
conversations, and are taken only if put together they give just what the template gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Messages = Sequence[Mapping[str, str]]
# A conversation, whether a reply is to follow, and whether with thinking before it.
Render = Callable[[Messages, bool, bool], str]

# No template means these, and none is a part of another. Small letters alone: some templates make letters small.
_SYSTEM, _FIRST, _ANSWER, _SECOND = "kestrel", "marmot", "walrus", "ocelot"
_LIVELY: Final = "Is THIS it? Yes!"


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
        unsaid: after that, where the operator says nothing.
        system: around what the operator says; None: the template has no place for it.
        user: around a user's message.
        assistant: around a reply.
        prompt: what a reply follows.
        faithful: whether a user's words stay as they are, but for blanks around them.
        could_think: whether the template can also let the model think before a reply, which is left out here: models
            are trained, and served by us, without.
    """

    start: str
    unsaid: str
    system: Around | None
    user: Around
    assistant: Around
    prompt: str
    faithful: bool
    could_think: bool

    def render(self, messages: Messages) -> str:
        """The conversation up to where a reply begins."""
        said = any(message["role"] == "system" for message in messages)
        text = self.start + ("" if said else self.unsaid)
        for message in messages:
            around = {"system": self.system, "user": self.user, "assistant": self.assistant}[message["role"]]
            text += around.before + message["content"] + around.after if around else ""
        return text + self.prompt

    def in_go(self, *, without_start: str = "") -> str | None:
        """As Ollama's TEMPLATE; None where its words cannot stand in one.

        Args:
            without_start: what the tokenizer puts before a text by itself, so that it is not there twice.

        Source: docs/template.mdx of Ollama: `.System`, `.Messages` with `.Role` and `.Content`; the last message may be
        a reply to be gone on with.
        """
        roles = [("system", self.system), ("user", self.user)]
        parts = [
            f'{{{{ {"else " if number else ""}if eq .Role "{role}" }}}}{around.before}{{{{ .Content }}}}{around.after}'
            for number, (role, around) in enumerate((role, around) for role, around in roles if around)
        ]
        text = (
            self.start.removeprefix(without_start)
            + (f"{{{{ if not .System }}}}{self.unsaid}{{{{ end }}}}" if self.unsaid else "")
            + "{{ range $index, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $index)) 1 }}"
            + "".join(parts)
            + f'{{{{ else if eq .Role "assistant" }}}}{self.assistant.before}{{{{ .Content }}}}'
            + f"{{{{ if not $last }}}}{self.assistant.after}{{{{ end }}}}{{{{ end }}}}"
            + f'{{{{ if and $last (ne .Role "assistant") }}}}{self.prompt}{{{{ end }}}}{{{{ end }}}}'
        )
        words = [self.start, self.unsaid, self.prompt]
        for around in (self.system, self.user, self.assistant):
            words += [around.before, around.after] if around else []
        return None if any("{{" in word or '"""' in word for word in words) else text


def template_of(tokenizer: Any) -> ChatTemplate | None:
    """What a tokenizer's template writes around messages; None where it is more than fixed words."""

    def render(messages: Messages, prompt: bool, think: bool) -> str:
        text: str = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=prompt,
            enable_thinking=think,
        )
        return text

    return _found(render, tokenizer.bos_token or "")


def _found(render: Render, first_token: str) -> ChatTemplate | None:
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
    start, unsaid, told = head[: len(head) - len(user_before)], "", None
    instructed = _rendered(render, [system, first], prompt=True)
    # A template may refuse the operator's words or leave them out, and may have words of its own in their place.
    if instructed is not None and _SYSTEM in instructed:
        before, _, after = instructed.partition(_SYSTEM)
        after, _, _ = after.partition(_FIRST)
        if not after.endswith(user_before):
            return None
        if not before.startswith(start):
            plain, start = start, first_token if start.startswith(first_token) else ""
            unsaid = plain.removeprefix(start)
        if not before.startswith(start):
            return None
        told = Around(before.removeprefix(start), after.removesuffix(user_before))
    lively = [{"role": "user", "content": _LIVELY}]
    found = ChatTemplate(
        start=start,
        unsaid=unsaid,
        system=told,
        user=Around(user_before, user_after),
        assistant=Around(after_first[len(user_after) :], assistant_after),
        prompt=rest[len(user_after) :],
        faithful=_LIVELY in (_rendered(render, lively, prompt=True) or ""),
        could_think=_rendered(render, [first], prompt=True) != _rendered(render, [first], prompt=True, think=True),
    )
    talks: list[list[Mapping[str, str]]] = [[first], [first, answer, second, answer, first]]
    talks += [[system, *talk] for talk in talks] if told else []
    return found if all(found.render(talk) == _rendered(render, talk, prompt=True) for talk in talks) else None


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


def _rendered(render: Render, messages: Messages, *, prompt: bool, think: bool = False) -> str | None:
    from jinja2 import TemplateError

    try:
        return render(messages, prompt, think)
    except (TemplateError, ValueError, TypeError):
        return None
