"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.assembly.answering import Answering
from app.machine import Machine, in_a_container
from app.settings import Settings, on_this_machine

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        found: what there is; never a secret.
        advice: what to do next, or good to know; empty: nothing.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at.

    Attributes:
        settings: with defaults in the place of those that are not allowed.
        wrong: what was found about each of these.
        answers: the engines; nothing was asked of them yet.
        machine: what this process may use; None: that cannot be found out.
        running: whether a server of this program runs here, as far as this user may see.
        root: of the file system.
    """

    settings: Settings
    wrong: Sequence[Finding]
    answers: Answering
    machine: Machine | None
    running: bool = False
    root: Path = Path("/")

    @property
    def ollama_is_here(self) -> bool:
        """Whether Ollama is on this machine: then its memory and its disk are this machine's."""
        return on_this_machine(self.settings.ollama_host)

    @property
    def in_a_container(self) -> bool:
        """Whether it runs in one."""
        return in_a_container(self.root)


@dataclass(frozen=True, slots=True)
class Check:
    """A check; `name` is what the report says where it does not end."""

    name: str
    look: Callable[[Patient], Awaitable[Sequence[Finding]]]


def first_sentence(problem: Exception) -> str:
    """What went wrong, without what a visitor may do about it."""
    return str(problem).split(". ")[0].splitlines()[0].removesuffix(".")
