"""`python -m training.train`: trains the built-in guide from scratch and writes models/guide.

Seeded: the same seed, versions and number of threads give the same weights.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from training.corpus import Message, Writer
from training.tokenizer import END, START, TEMPLATE, train_tokenizer

GUIDE: Final = Path(__file__).resolve().parent.parent / "models" / "guide"
_IGNORED: Final = -100  # torch's cross entropy leaves these labels out


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the guide is trained. Sizes in tokens, times in seconds."""

    seed: int = 20261121
    minutes: float = 20.0
    hidden: int = 320
    layers: int = 3
    heads: int = 5
    feed_forward: int = 896
    vocabulary: int = 4096
    context: int = 4096
    row: int = 512
    long_row: int = 2048
    batch_tokens: int = 4096
    learning_rate: float = 2.5e-3
    weight_decay: float = 0.1
    warmup: float = 0.03
    tokenizer_texts: int = 20_000


def new_model(recipe: Recipe, end_id: int, pad_id: int, vocabulary: int) -> Any:
    """A Qwen3 with random weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(recipe.seed)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.hidden // recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        eos_token_id=end_id,
        pad_token_id=pad_id,
        bos_token_id=None,
        use_cache=False,
    )
    return Qwen3ForCausalLM(config)


class Packer:
    """Packs conversations into rows of ids and labels; only the answers, and their ends, count for the loss."""

    def __init__(self, tokenizer: Any, conversations: Iterator[list[Message]]) -> None:
        self._tokenizer = tokenizer
        self._conversations = conversations
        self._ids: list[int] = []
        self._labels: list[int] = []
        self._start, self._end = (tokenizer.convert_tokens_to_ids(token) for token in (START, END))
        self._answer = tokenizer(f"{START}assistant\n", add_special_tokens=False)["input_ids"]

    def row(self, length: int) -> tuple[list[int], list[int]]:
        """The next `length` ids, and as many labels."""
        while len(self._ids) < length:
            self._add(next(self._conversations))
        ids, labels = self._ids[:length], self._labels[:length]
        # A row begins with a conversation, as prompts do: what is left of a cut one is not used.
        self._ids, self._labels = [], []
        return ids, labels

    def _add(self, messages: list[Message]) -> None:
        ids = list(self._tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])
        labels = [_IGNORED] * len(ids)
        size = len(self._answer)
        at = 0
        while at < len(ids):
            if ids[at : at + size] == self._answer:
                at += size
                while at < len(ids):
                    labels[at] = ids[at]
                    at += 1
                    if ids[at - 1] == self._end:
                        break
            else:
                at += 1
        self._ids += ids
        self._labels += labels


def rate(recipe: Recipe, share: float) -> float:
    """The learning rate after a share of the training: a short rise, then a cosine down to a twentieth."""
    if share < recipe.warmup:
        return recipe.learning_rate * share / recipe.warmup
    fall = (share - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0))))


def train(recipe: Recipe, steps: int | None = None, *, quiet: bool = False) -> tuple[Any, Any, list[float]]:
    """Train for `recipe.minutes`, or for a fixed number of steps, which is what makes it reproducible.

    Returns:
        The model, its tokenizer, and the loss of each step.
    """
    import torch
    from torch.nn import functional
    from tqdm import tqdm

    texts = Writer(recipe.seed).conversations()
    sample = list(islice(texts, recipe.tokenizer_texts))
    tokenizer = train_tokenizer(
        (
            message["content"].lower() if message["role"] == "user" else message["content"]
            for c in sample
            for message in c
        ),
        recipe.vocabulary,
    )
    model = new_model(recipe, tokenizer.eos_token_id, tokenizer.pad_token_id, max(len(tokenizer), recipe.vocabulary))
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    packer = Packer(tokenizer, Writer(recipe.seed + 1).conversations())
    losses: list[float] = []
    began, seconds, tokens = time.monotonic(), 60 * recipe.minutes, 0
    model.train()
    with tqdm(total=steps or 100, disable=quiet, unit="step" if steps else "%") as bar:
        while True:
            share = len(losses) / steps if steps else (time.monotonic() - began) / seconds
            if share >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, share)
            length = recipe.long_row if len(losses) % 16 == 15 else recipe.row
            rows = [packer.row(length) for _ in range(max(recipe.batch_tokens // length, 1))]
            ids, labels = (torch.tensor([row[part] for row in rows]) for part in (0, 1))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
                targets = labels[:, 1:]
                counted = targets != _IGNORED
                loss = functional.cross_entropy(model.lm_head(hidden[counted]).float(), targets[counted])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            tokens += ids.numel()
            bar.set_postfix_str(f"loss {losses[-1]:.3f}, {tokens / (time.monotonic() - began):,.0f} tok/s")
            bar.update(1 if steps else round(100 * share) - bar.n)
    return model, tokenizer, losses


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a folder that transformers loads, weights in 16 bits."""
    import torch
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    template = folder / "chat_template.jinja"
    template.write_text(TEMPLATE, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=GUIDE)
    parser.add_argument("--minutes", type=float, default=Recipe().minutes)
    parser.add_argument("--steps", type=int, default=None, help="a fixed number of steps instead of a time")
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    model, tokenizer, losses = train(Recipe(seed=arguments.seed, minutes=arguments.minutes), arguments.steps)
    save(model, tokenizer, arguments.out)
    print(f"{arguments.out}: {len(losses)} steps, last loss {sum(losses[-50:]) / len(losses[-50:]):.3f}")


if __name__ == "__main__":
    main()
