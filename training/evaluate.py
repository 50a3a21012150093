"""`python -m training.evaluate CHECKPOINT`: how well a trained model foretells what it was not trained on; of the guide
also how often it answers right.

CHECKPOINT is a run, one of its checkpoints, or a model's folder. What is measured by is what the run has held out, or
the files or folder given by --data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.engines.checkpoint import open_checkpoint
from app.engines.local_errors import words
from app.engines.local_loading import with_adapter
from training.checkpoint import CheckpointError, find_model
from training.config import ConfigError, DataConfig, TrainingConfig, load_config
from training.data.corpus import Corpus
from training.data.documents import Document
from training.data.encoding import Encoder
from training.data.errors import DataError
from training.perplexity import Perplexity, perplexity

_RUN: Final = "config.yaml"
# Of a model whose run is not known, at most; more takes memory and changes little.
_WINDOW: Final = 1024


class EvaluationError(Exception):
    """There is nothing to measure by; the message says what to do."""


def run_config(folder: Path) -> TrainingConfig | None:
    """The config that a model was trained with; None if its folder is not in a run's.

    Raises:
        ConfigError: it cannot be read.
    """
    for parent in list(folder.resolve().parents)[:2]:
        if (parent / _RUN).is_file():
            return load_config(parent / _RUN)
    return None


def documents_for(config: TrainingConfig | None, data: Path | None, *, guide: bool) -> Iterable[Document]:
    """What to measure by: `data` if given, else what the run has held out, of the guide its evaluation.

    Raises:
        DataError: the files cannot be used.
        EvaluationError: nothing is given, and nothing was held out.
    """
    if data:
        return Corpus(DataConfig(train=(str(data),), held_out_share=0)).training()
    if guide:
        return _guide_documents()
    if config is None:
        raise EvaluationError("it is not known what this model was trained on; give held-out text by DATA=folder")
    corpus = Corpus(config.data)
    if not corpus.survey.held_out:
        raise EvaluationError("the run has held nothing out; give text that it was not trained on by DATA=folder")
    return corpus.held_out()


def measure(model: Any, tokenizer: Any, documents: Iterable[Document], window: int = 0) -> tuple[Perplexity, int]:
    """The perplexity of a model, and the window that it was measured with.

    Args:
        model: of `load`.
        tokenizer: the model's.
        documents: of conversations the answers count, of texts everything.
        window: tokens at once; 0: what the model reads, up to 1,024.

    Raises:
        DataError: its template cannot show the documents.
        EvaluationError: there is nothing in the documents.
    """
    from tqdm import tqdm

    context = getattr(model.config, "max_position_embeddings", None) or _WINDOW
    window = min(window or _WINDOW, context)
    encoder = Encoder(tokenizer)
    parts, text_bytes = [encoder.beginning()], 0
    for tokens, size in encoder.encode(documents):
        parts.append(tokens)
        text_bytes += size
    tokens = np.concatenate(parts)
    if not (tokens >= 0).any():
        raise EvaluationError("there is no text to measure by; give some by DATA=folder")

    def shown(batches: list[Any]) -> Any:
        return tqdm(batches, unit="batch", desc="perplexity", leave=False)

    return perplexity(model, tokens, text_bytes, window, shown), window


def is_guide(folder: Path, config: TrainingConfig | None) -> bool:
    """Whether a model is the built-in guide, or one trained as it is."""
    from training.guide.tokenizer import TEMPLATE

    if config is not None:
        return config.data.source == "guide"
    template = folder / "chat_template.jinja"
    return template.is_file() and template.read_text(encoding="utf-8") == TEMPLATE


def load(folder: Path) -> tuple[Any, Any]:
    """The model in a folder and its tokenizer, with a chat template in any case.

    Args:
        folder: of a model, or of an adapter whose base is on this machine.

    Raises:
        CheckpointError: the model cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from training.data.tokenizers import CHATML, END, PLAIN
    from training.devices import device_of

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = device_of("auto")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    checkpoint = open_checkpoint(folder)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint.tokenizer, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint.base or checkpoint.folder, local_files_only=True, dtype=dtype
        )
        if checkpoint.base is not None:
            model = with_adapter(model, checkpoint.folder)
    except Exception as problem:  # noqa: BLE001 - each library on the way has its own errors for a broken file
        raise CheckpointError(f"{folder} cannot be loaded: {words(problem)}. Take another checkpoint") from None
    if not tokenizer.chat_template:
        tokenizer.chat_template = CHATML if END in tokenizer.get_vocab() else PLAIN
    return model.to(device).eval(), tokenizer


def _guide_documents() -> Iterator[Document]:
    """The questions that the guide never saw, with the right answers."""
    from training.guide.corpus import held_out
    from training.guide.knowledge import answers

    right = answers()
    for question in held_out():
        asked = {"role": "user", "content": question.text}
        yield Document(
            messages=(asked, {"role": "assistant", "content": right[question.key, question.language]}),
        )


def _tell_accuracy(model: Any, tokenizer: Any) -> None:
    from training.guide.corpus import held_out
    from training.guide.evaluate import answering, ask_alone, ask_in_conversations, report

    answer, questions = answering(model, tokenizer), held_out()
    print(report(ask_alone(answer, questions), ask_in_conversations(answer, questions)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, help="files or a folder to measure by in place of what was held out")
    parser.add_argument("--window", type=int, default=0, help="tokens that the model reads at once")
    arguments = parser.parse_args()
    try:
        folder = find_model(arguments.checkpoint)
        config = run_config(folder)
        guide = is_guide(folder, config)
        documents = documents_for(config, arguments.data, guide=guide)
        # Further apart than the rows of its training, a model has never seen two tokens.
        window = arguments.window or (config.data.block if config and not guide else 0)
        model, tokenizer = load(folder)
        found, window = measure(model, tokenizer, documents, window)
        by = arguments.data or ("its evaluation" if guide else "what the run has held out")
        print(f"{folder}, by {by}: {found}; window {window}")
        if guide:
            _tell_accuracy(model, tokenizer)
    except (CheckpointError, ConfigError, DataError, EvaluationError) as problem:
        sys.exit(f"eval: {problem}")


if __name__ == "__main__":
    main()
