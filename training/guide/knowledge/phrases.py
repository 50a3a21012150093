"""What people ask for, put into turns of speech that are the same for this program and for anything else.

A model that saw "how do i ..." only with what it knows would take every such question for one of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Final

from training.guide.knowledge.patterns import Language, expand_all, read

Groups = tuple[tuple[str, ...], ...]
KINDS: Final = ("do", "about", "state")


class Phrases:
    """Things to do, to hear about, and to complain of, with the frames to ask about each in.

    Args:
        kinds: for each of `KINDS` its phrases, patterns parted by `;`.
        language: theirs.
    """

    def __init__(self, kinds: Mapping[str, str], language: Language) -> None:
        self._phrases = {kind: expand_all(kinds[kind]) for kind in KINDS}
        frames = read("frames.yaml")[language]
        self._frames = {kind: expand_all(frames[kind]) for kind in KINDS}

    def question(self, chance: random.Random) -> str:
        """One of the phrases in one of its frames."""
        kind = chance.choice(KINDS)
        return _pick(self._frames[kind], chance).replace("{}", _pick(self._phrases[kind], chance))

    def __iter__(self) -> Iterator[str]:
        """Every phrase, without a frame."""
        return (text for groups in self._phrases.values() for group in groups for text in group)


def _pick(groups: Groups, chance: random.Random) -> str:
    """One text; those of a pattern with many choices come no more often than others."""
    return chance.choice(chance.choice(groups))
