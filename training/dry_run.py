"""`python -m training.dry_run CONFIG`: what a training would take, and two steps of it in small.

The model is built without memory for its weights (torch's meta device), so that a recipe for a large machine can be
looked at on a small one. Then the same recipe trains a very small model on the first documents of the corpus.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from training.config import ConfigError, ModelConfig, TrainingConfig, load_config
from training.data.documents import Document
from training.data.errors import DataError
from training.data.reading import corpus_files, read_documents
from training.data.tokenizers import CHATML, load_tokenizer, open_tokenizer, train_tokenizer
from training.models import ModelError, add_lora, model_settings, new_model
from training.runs import RunError, open_run
from training.saving import DiskFullError

_REPOSITORY: Final = Path(__file__).resolve().parent.parent
_TINY: Final = ModelConfig(hidden=64, layers=2, heads=2, feed_forward=128, context=64)
_VOCABULARY: Final = 512
_DOCUMENTS: Final = 500
# What an A100 does in practice: 40 % of 312 TFLOP/s in bfloat16. Source: model FLOPs utilisation in PaLM,
# arXiv:2204.02311, section 4.1, and NVIDIA's data sheet.
_A100: Final = 0.4 * 312e12
_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a training takes.

    Attributes:
        parameters: of the whole model.
        trained: how many of them are trained.
        state_bytes: of weights, gradients and what the optimizer keeps.
        work_bytes: of what a batch needs on the way forth and back.
        tokens: that are read in all; None where epochs of a corpus decide, which has not been read.
        flops: sums and products for these tokens.
    """

    parameters: int
    trained: int
    state_bytes: int
    work_bytes: int
    tokens: int | None
    flops: float | None

    def __str__(self) -> str:
        part = "" if self.trained == self.parameters else f", {self.trained:,} of them trained"
        lines = [
            f"parameters: {self.parameters:,}{part}",
            f"memory: about {(self.state_bytes + self.work_bytes) / _GB:,.1f} GB: {self.state_bytes / _GB:,.1f} for "
            f"weights, gradients and optimizer, {self.work_bytes / _GB:,.1f} for the tokens that are read at once",
        ]
        if self.tokens is None or self.flops is None:
            lines.append("tokens: as many as the corpus has, in each epoch")
        else:
            lines.append(f"tokens: {self.tokens:,}, {self.tokens / self.parameters:,.1f} for each parameter")
            lines.append(f"work: {self.flops:.1e} FLOP, about {self.flops / _A100 / 86_400:,.1f} days of one A100")
        return "\n".join(lines)


def estimate(config: TrainingConfig, tokenizer: Any) -> Estimate:
    """What the training of a config takes.

    State: 16 bytes for each trained parameter (weight, gradient, two moments, 4 each; arXiv:1910.02054, section 3.1),
    4 more for a moving average, 4 or 2 for each frozen one. On the way: 34 bytes for each token, layer and unit of
    width where numbers have 16 bits (arXiv:2205.05198, section 4.1, without the attention's matrix, which is never
    whole in memory), and 12 bytes for each token and word of the vocabulary (logits, in 16 and in 32 bits, and their
    gradients). Work: 6 FLOP for each token and parameter (arXiv:2001.08361, section 2.1), 4 where it is frozen,
    and 2 more with `recompute`.

    Raises:
        ModelError, DataError: the base's configuration cannot be had.
    """
    import torch

    loop = config.training
    with torch.device("meta"):
        model = _base_on_meta(config) if config.model.base else new_model(config, tokenizer)
        if config.lora:
            model = add_lora(model, config)
    settings = model.config
    parameters = sum(weight.numel() for weight in model.parameters())
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    wide = 2 if loop.precision == "float32" else 1
    state = trained * (16 + 4 * bool(loop.average)) + (parameters - trained) * 2 * wide
    # With `recompute` each layer keeps only what comes into it, and one at a time is calculated again.
    layers = settings.num_hidden_layers
    kept = 34 + 2 * layers if loop.recompute else 34 * layers
    work = loop.batch_tokens * (kept * wide * settings.hidden_size + 12 * settings.vocab_size)
    tokens = loop.steps * loop.batch_tokens * loop.accumulate or None
    again = 2 if loop.recompute else 0
    flops = tokens * ((6.0 + again) * trained + (4.0 + again) * (parameters - trained)) if tokens else None
    return Estimate(parameters, trained, state, work, tokens, flops)


def tiny(config: TrainingConfig, folder: Path) -> TrainingConfig:
    """The same recipe for two steps of a very small model, on the corpus's first documents.

    Args:
        config: the recipe.
        folder: where these documents are put, and for a base a very small one of its architecture.

    Raises:
        DataError: the corpus is there, and cannot be used.
        ModelError: the base's configuration cannot be had.
    """
    block = min(config.data.block, _TINY.context)
    corpus = folder / "corpus.jsonl"
    with corpus.open("w", encoding="utf-8") as out:
        for document in _first_documents(config):
            line = {"messages": document.messages} if document.messages else {"text": document.text}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    model = replace(_TINY, architecture=config.model.architecture, dropout=config.model.dropout)
    tokenizer = replace(config.tokenizer, reuse="", vocabulary=_VOCABULARY)
    if config.model.base:
        model = replace(model, base=_tiny_base(config, corpus, folder / "base"))
    share = config.data.held_out_share or 0.05
    return replace(
        config,
        data=replace(config.data, train=(str(corpus),), held_out=(), held_out_share=share, block=block),
        tokenizer=tokenizer,
        model=model,
        training=replace(
            config.training,
            steps=2,
            epochs=0.0,
            batch_tokens=4 * block,
            accumulate=min(config.training.accumulate, 2),
            evaluate_every=1,
            save_every=2,
            device="cpu",
            precision="float32" if config.training.precision == "float16" else config.training.precision,
        ),
    )


def dry_run(config: TrainingConfig) -> str:
    """The estimate, and how the two steps went.

    Raises:
        ConfigError, DataError, ModelError, RunError, DiskFullError: what the training itself would say.
    """
    from training.train import train

    if config.data.source == "guide":
        raise ConfigError("the guide is small: train it, `training.steps` in its config makes it shorter")
    with tempfile.TemporaryDirectory(prefix="dry-run-") as place:
        folder = Path(place)
        small = tiny(config, folder)
        reused = config.tokenizer.reuse
        found = estimate(config, load_tokenizer(reused) if reused else open_tokenizer(small))
        outcome = train(small, open_run(small, "no", folder / "runs"), quiet=True)
    loss = "not measured" if outcome.best_loss is None else f"{outcome.best_loss:.2f} (chance: {_chance(small):.2f})"
    went = f"{outcome.step} steps at width {small.model.hidden}: held-out loss {loss}; nothing of it is kept"
    return "\n".join([f"{config.name}, a dry run", str(found), _corpus(config), went])


def _first_documents(config: TrainingConfig) -> Iterator[Document]:
    """Of the corpus; where it is not there yet, the READMEs of this program, which are in two languages."""
    missing = [path for path in config.data.train if not Path(path).exists()]
    files = corpus_files(
        [_REPOSITORY / "README.md", _REPOSITORY / "README.ru.md"] if missing else map(Path, config.data.train)
    )
    found = (document for file in files for document in read_documents(file))
    return (document for document in islice(found, _DOCUMENTS) if document is not None)


def _corpus(config: TrainingConfig) -> str:
    missing = [path for path in config.data.train if not Path(path).exists()]
    if missing:
        return f"corpus: {', '.join(missing)} is not there yet; the two steps were on this program's README"
    files = corpus_files(map(Path, config.data.train))
    size = sum(file.stat().st_size for file in files)
    return f"corpus: {len(files):,} files, {size / _GB:,.3f} GB"


def _chance(config: TrainingConfig) -> float:
    return math.log(config.tokenizer.vocabulary)


def _base_settings(config: TrainingConfig) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(config.model.base)
    except Exception as problem:  # noqa: BLE001 - each library on the way has its own errors for a broken file
        text = " ".join(str(problem).split())
        raise ModelError(
            f"the configuration of the base model {config.model.base} cannot be had; check its name or folder, and "
            f"the network: {text}"
        ) from None


def _base_on_meta(config: TrainingConfig) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(_base_settings(config))


def _tiny_base(config: TrainingConfig, corpus: Path, folder: Path) -> str:
    """A base of the same architecture with random weights, and a tokenizer of its own."""
    from transformers import AutoModelForCausalLM

    texts = (document.text for document in read_documents(corpus) if document)
    tokenizer = train_tokenizer(texts, _VOCABULARY, template=CHATML)
    settings = _base_settings(config)
    known = {name: replace(_TINY, architecture=name) for name in ("gpt2", "llama", "qwen3")}
    small = model_settings(known.get(settings.model_type, known["llama"]), _VOCABULARY, tokenizer)
    AutoModelForCausalLM.from_config(small).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a file, or the name of one in training/configs")
    parser.add_argument("--data", default="", help="a file or folder to train on in place of the config's")
    arguments = parser.parse_args()
    try:
        print(dry_run(load_config(arguments.config, arguments.data)))
    except (ConfigError, DataError, ModelError, RunError, DiskFullError) as problem:
        sys.exit(f"train: {problem}")


if __name__ == "__main__":
    main()
