"""`python -m training.train`: trains the built-in guide from scratch and writes models/guide.

Seeded: the same seed, versions and number of threads give the same weights.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from training.guide.corpus import Writer
from training.guide.packing import IGNORED, Packer
from training.tokenizer import TEMPLATE, train_tokenizer

GUIDE: Final = Path(__file__).resolve().parent.parent / "models" / "guide"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the guide is trained. Sizes of rows and batches in tokens; every `long_every`th batch is of long rows."""

    seed: int = 20261121
    steps: int = 3000
    hidden: int = 320
    layers: int = 3
    heads: int = 5
    feed_forward: int = 896
    vocabulary: int = 4096
    context: int = 4096
    row: int = 512
    long_row: int = 2048
    long_every: int = 16
    batch_tokens: int = 4096
    learning_rate: float = 2.5e-3
    weight_decay: float = 0.1
    warmup: float = 0.03
    dropout: float = 0.2
    tokenizer_conversations: int = 20_000


def new_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A Qwen3 with random weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(recipe.seed)
    config = Qwen3Config(
        vocab_size=max(len(tokenizer), recipe.vocabulary),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.hidden // recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        use_cache=False,
    )
    return Qwen3ForCausalLM(config)


def rate(recipe: Recipe, share: float) -> float:
    """The learning rate after a share of the training: a short rise, then a cosine down to a twentieth."""
    if share < recipe.warmup:
        return recipe.learning_rate * share / recipe.warmup
    fall = (share - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0))))


def train(recipe: Recipe, *, quiet: bool = False) -> tuple[Any, Any, list[float]]:
    """Train from scratch.

    Args:
        recipe: sizes, seed and length of the training.
        quiet: no progress bar.

    Returns:
        The model, its tokenizer, and the loss of each step, in nats by token of an answer.
    """
    import torch
    from torch.nn import functional
    from tqdm import tqdm

    tokenizer = train_tokenizer(_texts(recipe), recipe.vocabulary)
    model = new_model(recipe, tokenizer)
    optimizer = _optimizer(model, recipe)
    packer = Packer(tokenizer, Writer(recipe.seed + 1).conversations(), recipe.seed + 2)
    losses: list[float] = []
    tokens = 0
    model.train()
    with tqdm(total=recipe.steps, disable=quiet, unit="step", mininterval=1.0) as bar:
        for step in range(recipe.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, step / recipe.steps)
            length = recipe.long_row if step % recipe.long_every == recipe.long_every - 1 else recipe.row
            rows = [packer.row(length) for _ in range(max(recipe.batch_tokens // length, 1))]
            ids, labels = (torch.tensor([row[part] for row in rows]) for part in (0, 1))
            counted = labels[:, 1:] != IGNORED
            with torch.autocast("cpu", dtype=torch.bfloat16):
                embedded = functional.dropout(model.model.embed_tokens(ids), recipe.dropout)
                hidden = model.model(inputs_embeds=embedded).last_hidden_state[:, :-1]
                loss = functional.cross_entropy(model.lm_head(hidden[counted]).float(), labels[:, 1:][counted])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            tokens += ids.numel()
            seconds = bar.format_dict["elapsed"]
            bar.set_postfix_str(f"loss {losses[-1]:.3f}, {tokens / max(seconds, 1e-9):,.0f} tok/s", refresh=False)
            bar.update()
    return model, tokenizer, losses


def _texts(recipe: Recipe) -> Iterator[str]:
    """What the tokenizer is trained on, users' texts as the template shows them."""
    for conversation in islice(Writer(recipe.seed).conversations(), recipe.tokenizer_conversations):
        for message in conversation:
            yield message["content"].lower() if message["role"] == "user" else message["content"]


def _optimizer(model: Any, recipe: Recipe) -> Any:
    import torch

    decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    scales = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": scales, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )


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
    parser.add_argument("--out", type=Path, default=GUIDE, help="folder to write")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--seed", type=int, default=Recipe().seed)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    model, tokenizer, losses = train(Recipe(seed=arguments.seed, steps=arguments.steps))
    save(model, tokenizer, arguments.out)
    last = losses[-50:]
    print(f"{arguments.out}: {len(losses)} steps, loss of the last {len(last)}: {sum(last) / len(last):.3f}")


if __name__ == "__main__":
    main()
