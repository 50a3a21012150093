"""What the guide is trained with: its tokenizer, its model, and batches of conversations written from its knowledge."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from training.batches import Feed
from training.config import TrainingConfig
from training.guide.corpus import Writer
from training.guide.packing import Kept, Packer
from training.guide.teacher import teacher
from training.guide.tokenizer import levelled, train_tokenizer

_CONVERSATIONS: Final = 20_000  # that the tokenizer is trained on
# Most conversations stand for themselves in short rows, their answers cut. Every fourth batch has long rows, in which
# one goes on where the other ended, and many answers are whole: so long conversations are known too.
_LONG_EVERY: Final = 4
_LONG: Final = 16
_SHORT_ROWS: Final[dict[Kept, float]] = {"recited": 0.03, "strayed": 0.02}
_LONG_ROWS: Final[dict[Kept, float]] = {"shown": 0.15, "recited": 0.1, "strayed": 0.1}
# Answers are made of a tenth of all tokens. Of the others, which are never to be said, each batch has so many: a
# sampled softmax (arXiv:1412.2007), which takes a fifth of the time of the whole one.
_UNSAID: Final = 0.1
_SPREAD: Final = 0.1  # standard deviation of the first embeddings
_CHANCE: Final = 0.5  # the same of what is by chance in them, where what the teacher knows has 1
_HELD_OUT: Final = 8  # batches; their conversations are written like the others, by another chance


class GuideBatches:
    """Batches by number: each is written from a chance of its own, so that any can be had without those before it.

    Args:
        tokenizer: the guide's.
        config: sizes.
        seed: of these batches; others have others.
        count: how many there are.
    """

    def __init__(self, tokenizer: Any, config: TrainingConfig, seed: int, count: int) -> None:
        self._writer = Writer(seed, teacher=teacher() if config.data.teacher else None)
        self._packer = Packer(tokenizer, seed)
        self._block, self._tokens = config.data.block, config.training.batch_tokens
        self._seed, self._count = seed, count
        self._unsaid = [token for token in range(_vocabulary(tokenizer, config)) if token not in self._packer.said]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int, /) -> dict[str, Any]:
        if not 0 <= number < self._count:
            raise IndexError(number)
        import torch

        self._writer.reseed(f"{self._seed} {number}")
        self._packer.reseed(f"{self._seed} {number}")
        long = number % _LONG_EVERY == _LONG_EVERY - 1
        length, kept = (self._block * _LONG, _LONG_ROWS) if long else (self._block, _SHORT_ROWS)
        conversations = self._writer.conversations()
        rows = [self._packer.row(conversations, length, kept) for _ in range(max(self._tokens // length, 1))]
        batch = {
            "input_ids": torch.tensor([row.ids for row in rows]),
            "labels": torch.tensor([row.labels for row in rows]),
        }
        taught = [(at, *one) for at, row in enumerate(rows) for one in row.taught]
        if taught:
            *places, shares = zip(*taught, strict=True)
            batch["taught"], batch["shares"] = torch.tensor(places).T, torch.tensor(shares)
        if not long:
            # Where these begin anew, a model of transformers sees another sequence.
            batch["position_ids"] = torch.tensor([row.places for row in rows])
        unsaid = random.Random(f"{self._seed} {number}").sample(self._unsaid, int(_UNSAID * len(self._unsaid)))
        batch["candidates"] = torch.tensor(sorted(self._packer.said.union(unsaid)))
        return batch


def guide_tokenizer(config: TrainingConfig, conversations: int = _CONVERSATIONS) -> Any:
    """The guide's tokenizer, trained."""
    return train_tokenizer(_texts(config.seed, conversations), config.tokenizer.vocabulary)


def guide_feed(config: TrainingConfig, tokenizer: Any) -> Feed:
    """All batches of a training of the guide."""
    count = config.training.steps * config.training.accumulate
    train = GuideBatches(tokenizer, config, config.seed + 1, count)
    held_out = GuideBatches(tokenizer, config, config.seed + 2, _HELD_OUT)
    # A change of the knowledge shows in some question or other.
    written = hashlib.blake2b(digest_size=16)
    for batch in (train[0], *(held_out[number] for number in range(_HELD_OUT))):
        written.update(batch["input_ids"].numpy().tobytes())
    return Feed(train, held_out, written.hexdigest())


def guide_model(config: TrainingConfig, tokenizer: Any) -> Any:
    """A Qwen3 with random weights, but for embeddings that begin with what its teacher knows, if it has one. Words are
    dropped out after the embedding while it is trained."""
    import torch
    from torch.nn import functional
    from transformers import GenerationConfig, Qwen3ForCausalLM

    from training.models import model_settings

    sizes = config.model
    torch.manual_seed(config.seed)
    vocabulary = _vocabulary(tokenizer, config)
    # Its dropout is that of the embedding alone, below.
    model: Any = Qwen3ForCausalLM(model_settings(replace(sizes, dropout=0.0), vocabulary, tokenizer))
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    if config.data.teacher:
        model.get_input_embeddings().weight.data = _first_embeddings(tokenizer, vocabulary, sizes.hidden)
    model.get_input_embeddings().register_forward_hook(
        lambda module, _, embedded: functional.dropout(embedded, sizes.dropout, module.training)
    )
    return model


def _vocabulary(tokenizer: Any, config: TrainingConfig) -> int:
    return max(len(tokenizer), config.tokenizer.vocabulary)


def _first_embeddings(tokenizer: Any, vocabulary: int, hidden: int) -> Any:
    """Embeddings to begin with: what the teacher takes each token for, turned by chance, and a little chance.

    So tokens that ask for the same are near each other from the first step on; from chance alone it took three times
    as many steps to understand as much, and rare tokens were never understood.
    """
    import torch

    marks = set(tokenizer.all_special_ids)
    tokens = ["" if number in marks else tokenizer.decode([number]).strip() for number in range(len(tokenizer))]
    views = torch.zeros(vocabulary, hidden)
    known = torch.tensor(teacher().views(tokens), dtype=torch.float32)
    says = known.any(dim=1)
    known[says] -= known[says].mean(dim=0)
    views[: len(tokens)] = known @ torch.nn.init.orthogonal_(torch.empty(known.shape[1], hidden))
    chance = torch.randn(vocabulary, hidden)
    return _SPREAD * (views / views.std() + _CHANCE * chance) / (1 + _CHANCE**2) ** 0.5


def _texts(seed: int, conversations: int) -> Iterator[str]:
    """What the tokenizer is trained on, users' texts as the template shows them."""
    for conversation in islice(Writer(seed).conversations(), conversations):
        for message in conversation:
            yield levelled(message["content"]) if message["role"] == "user" else message["content"]
