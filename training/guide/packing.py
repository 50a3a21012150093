"""Conversations as rows of token ids for training."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from training.data.blocks import IGNORED
from training.guide.corpus import Message
from training.guide.knowledge import answers
from training.guide.tokenizer import END, START, levelled

Row = tuple[list[int], list[int]]


class Packer:
    """Packs conversations into rows of ids and labels; only the answers, and their ends, count for the loss.

    What a question asks for shows in the first words of its answer; the rest of an answer is known by heart early. So
    most conversations have their answers cut after these, which leaves room for far more questions.
    A question's words are cut at places that change from time to time (as BPE-dropout does, arXiv:1910.13267, but
    from our seed), so that forms of a word and slips of the finger are known by their parts.

    Args:
        tokenizer: the guide's.
        seed: of the cuts.
        short: share of conversations with cut answers.
        beyond: tokens that stay of a cut answer after those which tell it from the other answers.
        split: share of a question's words that are cut in two.
    """

    def __init__(
        self,
        tokenizer: Any,
        seed: int,
        *,
        short: float = 0.93,
        beyond: int = 1,
        split: float = 0.2,
    ) -> None:
        self._tokenizer = tokenizer
        self._chance = random.Random(seed)
        self._short, self._beyond, self._split = short, beyond, split
        self._end = tokenizer.convert_tokens_to_ids(END)
        # The same answers and beginnings of words come again and again; most questions never do.
        self._encode = lru_cache(maxsize=1 << 16)(self._tokens)
        texts = [self._encode(text) for _, _, text in answers()]
        self._beginnings = Counter(tuple(ids[:size]) for ids in texts for size in range(1, len(ids) + 1))

    def reseed(self, seed: int | str) -> None:
        """From here on cut as this seed gives."""
        self._chance.seed(seed)

    def row(self, conversations: Iterator[list[Message]], length: int) -> Row:
        """The next `length` ids, and as many labels. A row begins with a conversation, as prompts do.

        Args:
            conversations: what to pack, without end.
            length: of the row.
        """
        ids: list[int] = []
        labels: list[int] = []
        while len(ids) < length:
            more_ids, more_labels = self.conversation(next(conversations))
            ids += more_ids
            labels += more_labels
        return ids[:length], labels[:length]

    def conversation(self, messages: list[Message]) -> Row:
        """The ids of one conversation, as the chat template gives them but for cut answers and words, and labels."""
        short = self._chance.random() < self._short
        ids: list[int] = []
        labels: list[int] = []
        for message in messages:
            answer = message["role"] == "assistant"
            ids += self._encode(f"{START}{message['role']}\n")
            content = (
                self._question(message["content"]) if message["role"] == "user" else self._encode(message["content"])
            )
            if answer and short:
                content = content[: self._deciding(content) + self._beyond]
            labels += [IGNORED] * (len(ids) - len(labels))
            ids += content
            if answer:
                labels += content if short else [*content, self._end]
            ids += self._encode(f"{END}\n")
        return ids, labels + [IGNORED] * (len(ids) - len(labels))

    def _deciding(self, answer: list[int]) -> int:
        """The number of first tokens that tell an answer from the others."""
        sizes = range(1, len(answer) + 1)
        return next((size for size in sizes if self._beginnings[tuple(answer[:size])] <= 1), len(answer))

    def _question(self, text: str) -> list[int]:
        text = levelled(text)
        if self._split == 0:
            return self._encode(text)
        found: list[int] = []
        for number, word in enumerate(text.split(" ")):
            word = f" {word}" if number else word
            at = self._chance.randrange(2, len(word)) if len(word) > 3 and self._chance.random() < self._split else 0
            found += self._encode(word[:at]) + self._encode(word[at:])
        return found

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
