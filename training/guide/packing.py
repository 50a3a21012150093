"""Conversations as rows of token ids for training."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, Literal

from training.data.blocks import IGNORED
from training.guide.corpus import Message
from training.guide.knowledge import answers
from training.guide.tokenizer import END, levelled

# What stands where the answers of a conversation are. begun: the first tokens of each, which tell it from the others;
# shown: all of it, but only these first ones count; recited: all, and all counts; strayed: any answer at all, of which
# only what follows its first tokens counts.
Kept = Literal["begun", "shown", "recited", "strayed"]


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids, what each is to be foretold as (`IGNORED`: it does not count), and its place in its conversation.
    `taught`: at a position, a token that a teacher would put there, and its share; all of a position make 1, or inside
    of a question the weight of what is foreseen there."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    taught: list[tuple[int, int, float]] = field(default_factory=list)

    def extend(self, more: Row) -> None:
        """Put another one after it; places are not counted on."""
        self.taught.extend((len(self.ids) + at, token, share) for at, token, share in more.taught)
        self.ids.extend(more.ids)
        self.labels.extend(more.labels)
        self.places.extend(more.places)


class Packer:
    """Packs conversations into rows of ids and labels; only the answers, and their ends, count for the loss, and some
    places inside of questions.

    What a question asks for shows in the first words of its answer; the rest of an answer is known by heart early. So
    most conversations have their answers cut after these, which leaves room for far more questions. An answer that has
    begun goes on as it is known, whatever was asked: some stand under questions that do not ask for them, or one that
    is rarely given would mix with others where the guide is not sure.
    Where a teacher has labelled a question's beginning, its answer is to be foretold right after it: what a transformer
    computes there anyway learns as well, which it does at hardly any cost.
    A question's words are cut at places that change from time to time (as BPE-dropout does, arXiv:1910.13267, but
    from our seed), so that forms of a word and slips of the finger are known by their parts.

    Args:
        tokenizer: the guide's.
        seed: of the cuts.
        split: share of a question's words that are cut in two.
        foreseen: what counts for the loss at a question's beginning, where an answer's token counts 1.

    Attributes:
        said: all tokens that answers and their ends are made of.
    """

    def __init__(self, tokenizer: Any, seed: int, *, split: float = 0.2, foreseen: float = 0.5) -> None:
        self._tokenizer = tokenizer.backend_tokenizer  # the way around it takes longer than the tokens
        self._chance = random.Random(seed)
        self._split, self._foreseen = split, foreseen
        self._end = tokenizer.convert_tokens_to_ids(END)
        # The same answers and beginnings of words come again and again; most questions never do.
        self._encode = lru_cache(maxsize=1 << 16)(self._tokens)
        self._answers = [self._encode(text) for text in answers().values()]
        self.said = {self._end}.union(*self._answers)
        self._beginnings = Counter(tuple(ids[:size]) for ids in self._answers for size in range(1, len(ids) + 1))

    def reseed(self, seed: int | str) -> None:
        """From here on cut as this seed gives."""
        self._chance.seed(seed)

    def row(self, conversations: Iterator[list[Message]], length: int, kept: Mapping[Kept, float]) -> Row:
        """The next `length` ids and labels, and places, counted anew in each conversation. A row begins with a
        conversation, as prompts do.

        Args:
            conversations: what to pack, without end.
            length: of the row.
            kept: share of conversations whose answers are kept so; of the rest they are `begun`.
        """
        row = Row()
        kinds: tuple[Kept, ...] = ("begun", *kept)
        shares = [1 - sum(kept.values()), *kept.values()]
        while len(row.ids) < length:
            (kind,) = self._chance.choices(kinds, shares)
            row.extend(self.conversation(next(conversations), kind))
        taught = [one for one in row.taught if one[0] < length]
        return Row(row.ids[:length], row.labels[:length], row.places[:length], taught)

    def conversation(self, messages: list[Message], kept: Kept) -> Row:
        """One conversation as the chat template gives it, but for words that are cut in two, and for the answers, of
        which that stays which is to be kept."""
        row = Row()
        for message in messages:
            row.extend(_silent(self._encode(f"<|{message['role']}|>")))
            match message["role"]:
                case "user":
                    row.extend(self._question(message))
                case "assistant":
                    row.extend(self._answer(message, kept))
                case _:
                    row.extend(_silent([*self._encode(message["content"]), self._end]))
        row.places.extend(range(len(row.ids)))
        return row

    def _question(self, message: Message) -> Row:
        words = [self._word(word, number) for number, word in enumerate(levelled(message["content"]).split(" "))]
        row = _silent([*chain.from_iterable(words), self._end])
        for size, shares in message.get("foreseen", {}).items():
            at = sum(map(len, words[:size]))
            first = self._next([], shares)
            row.labels[at] = max(first, key=first.__getitem__)
            row.taught.extend((at, token, self._foreseen * share) for token, share in first.items())
        return row

    def _word(self, word: str, number: int) -> list[int]:
        word = f" {word}" if number else word
        at = self._chance.randrange(2, len(word)) if len(word) > 3 and self._chance.random() < self._split else 0
        return self._encode(word[:at]) + self._encode(word[at:])

    def _answer(self, message: Message, kept: Kept) -> Row:
        content = self._chance.choice(self._answers) if kept == "strayed" else self._encode(message["content"])
        deciding = content[: self._deciding(content)]
        row = _silent([*(deciding if kept == "begun" else content), self._end])
        if kept == "strayed":
            row.labels[len(deciding) :] = row.ids[len(deciding) :]
            return row
        counted = row.ids if kept == "recited" else deciding
        row.labels[: len(counted)] = counted
        row.taught.extend(
            (at, token, share)
            for at in range(len(deciding))
            for token, share in self._next(deciding[:at], message.get("shares", {})).items()
        )
        return row

    def _deciding(self, answer: list[int]) -> int:
        """The number of first tokens that tell an answer from the others."""
        sizes = range(1, len(answer) + 1)
        return next((size for size in sizes if self._beginnings[tuple(answer[:size])] <= 1), len(answer))

    def _next(self, begun: list[int], shares: dict[str, float]) -> dict[int, float]:
        """The tokens that may follow of an answer which has begun so, and how likely each is."""
        found: dict[int, float] = defaultdict(float)
        for text, share in shares.items():
            ids = self._encode(text)
            if ids[: len(begun)] == begun and len(ids) > len(begun):
                found[ids[len(begun)]] += share
        total = sum(found.values())
        return {token: share / total for token, share in found.items()}

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _silent(ids: list[int]) -> Row:
    """Tokens of which none counts."""
    return Row(ids, [IGNORED] * len(ids))
