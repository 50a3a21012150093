"""Writing the file: what goes into it in which form, and that it is there whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from app.engines.checkpoint import Checkpoint, open_checkpoint
from app.engines.checkpoint_files import CheckpointError
from app.engines.local_errors import words
from app.engines.local_files import CONFIG, read_json
from app.engines.plain_template import STOPS, plain_template
from app.settings import GUIDE_DIR
from training.export_gguf.adapter import merge
from training.export_gguf.architectures import Architecture, architecture_of
from training.export_gguf.errors import ExportError
from training.export_gguf.modelfile import sampling_of, write_modelfile
from training.export_gguf.template import ChatTemplate, template_of
from training.export_gguf.tokens import Tokens, read_tokens
from training.export_gguf.weights import Weights

# Added, not looked up, so they stay exact. Source: convert_hf_to_gguf.py.
_EXACT: Final = "position_embd.weight"
_GENERATION: Final = "generation_config.json"
_BLOCK: Final = 32  # values that share a scale in Q8_0
_SPARE: Final = 1 << 20  # bytes beyond the weights: names, tokens, merges


class Kind(Enum):
    """How the matrices are stored; all else is in 32 bits."""

    F16 = "f16"
    Q8_0 = "q8_0"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        model: the GGUF file.
        modelfile: Ollama's, beside it.
        size: of the GGUF file, in bytes.
        template: what Ollama writes around messages; None: the model's own is beyond it.
        plain: whether the model had no template and was given a plain one.
    """

    model: Path
    modelfile: Path
    size: int
    template: ChatTemplate | None
    plain: bool


@dataclass(frozen=True, slots=True)
class _Planned:
    """A tensor to be written: by llama.cpp's name and by transformers' (or itself), in which form and size."""

    name: str
    source: Any
    shape: tuple[int, ...]
    form: Any
    size: int


def name_of(path: Path) -> str:
    """What a trained model is called.

    Raises:
        ExportError: there is none.
    """
    try:
        checkpoint = open_checkpoint(path)
    except CheckpointError as problem:
        raise ExportError(str(problem)) from None
    return GUIDE_DIR.name if checkpoint.folder.resolve() == GUIDE_DIR.resolve() else checkpoint.name


def export(path: Path, out: Path, kind: Kind = Kind.F16) -> Exported:
    """Write a trained model as GGUF, with a Modelfile beside it; a file of that name is replaced.

    Args:
        path: a model's folder, a checkpoint's, an adapter's or a run's.
        out: the file.
        kind: of its matrices.

    Raises:
        ExportError: it cannot be written; what was at `out` is still there.
    """
    if out.suffix != ".gguf":
        raise ExportError(f"{out} is no name for a GGUF file. Let it end in .gguf")
    try:
        checkpoint = open_checkpoint(path)
        out.parent.mkdir(parents=True, exist_ok=True)
        with _whole_model(checkpoint, out.parent) as folder:
            return _export(folder, name_of(path), out, kind)
    except CheckpointError as problem:
        raise ExportError(str(problem)) from None
    except OSError as problem:
        told = words(problem)
        raise ExportError(f"{out} cannot be written ({told}). Free some space there, or name another OUT") from None


@contextmanager
def _whole_model(checkpoint: Checkpoint, place: Path) -> Iterator[Path]:
    """The folder of the model, an adapter merged into its base."""
    if checkpoint.base is None:
        yield checkpoint.folder
        return
    with TemporaryDirectory(prefix=".merged-", dir=place) as merged:
        merge(checkpoint.folder, checkpoint.base, checkpoint.tokenizer, Path(merged))
        yield Path(merged)


def _export(folder: Path, name: str, out: Path, kind: Kind) -> Exported:
    import gguf

    config, architecture = _architecture(folder)
    tokens = read_tokens(folder, config.vocab_size)
    weights = Weights(folder, config, tied=architecture.tied)
    planned = list(_plan(architecture, weights, kind))
    size = sum(one.size for one in planned)
    if (free := shutil.disk_usage(out.parent).free) < size + _SPARE:
        raise ExportError(
            f"{out} takes {size / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free there. "
            "Free some space, or name another OUT"
        )
    plain = not tokens.tokenizer.chat_template
    if plain:
        tokens.tokenizer.chat_template = plain_template(tokens.tokenizer)
    part = out.with_name(f".{out.name}.part")
    try:
        writer = gguf.GGUFWriter(part, architecture.name)
        writer.add_name(name)
        writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{kind.name}"))
        architecture.add_keys(writer)
        tokens.add_to(writer)
        writer.add_chat_template(tokens.tokenizer.get_chat_template())
        _write(writer, planned, architecture, weights)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return _with_modelfile(folder, out, architecture, tokens, plain=plain)


def _architecture(folder: Path) -> tuple[Any, Architecture]:
    from transformers import AutoConfig

    family = read_json(folder / CONFIG).get("model_type")
    known = architecture_of(family)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        return config, known(config)
    except ExportError:
        raise
    except Exception as problem:  # noqa: BLE001 - transformers has errors of many kinds for a value that is wrong
        raise ExportError(f"{folder / CONFIG} cannot be used: {words(problem)}. Correct it, or copy it again") from None


def _plan(architecture: Architecture, weights: Weights, kind: Kind) -> Iterator[_Planned]:
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[architecture.name.upper()], architecture.layers)
    for name, tensor in architecture.further().items():
        yield _Planned(name, tensor, tuple(tensor.shape), gguf.GGMLQuantizationType.F32, 4 * tensor.numel())
    for source, stored in weights.shapes.items():
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ExportError(f"llama.cpp has no place for {source} in a {architecture.name}")
        shape = _shape(architecture, source, stored)
        form = gguf.GGMLQuantizationType.F16
        if len(shape) == 1 or name == _EXACT:
            form = gguf.GGMLQuantizationType.F32
        elif kind is Kind.Q8_0 and shape[-1] % _BLOCK == 0:
            form = gguf.GGMLQuantizationType.Q8_0
        block, size = gguf.GGML_QUANT_SIZES[form]
        values = 1
        for side in shape:
            values *= side
        yield _Planned(name, source, shape, form, values // block * size)


def _shape(architecture: Architecture, source: str, stored: tuple[int, ...]) -> tuple[int, ...]:
    import torch

    return tuple(architecture.change(source, torch.empty(stored, device="meta")).shape)


def _write(writer: Any, planned: list[_Planned], architecture: Architecture, weights: Weights) -> None:
    """Header first, then one tensor at a time, so that a large model needs no more memory than its largest matrix."""
    import gguf
    import numpy as np
    import torch
    from tqdm import tqdm

    for one in planned:
        writer.add_tensor_info(one.name, one.shape, np.dtype(np.float32), one.size, raw_dtype=one.form)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for one in tqdm(planned, unit="tensor", disable=None):
            tensor = one.source
            if isinstance(tensor, str):
                tensor = architecture.change(tensor, weights.read(tensor))
            values = np.ascontiguousarray(tensor.to(torch.float32).numpy())
            limit = float(np.abs(values).max(initial=0.0))
            # Not less than: a NaN is neither.
            if not limit <= (np.finfo(np.float16).max if values.ndim > 1 else np.finfo(np.float32).max):
                raise ExportError(f"{one.source} has values that are no numbers or too large for 16 bits ({limit})")
            writer.write_tensor_data(gguf.quantize(values, one.form))
    finally:
        writer.close()


def _with_modelfile(folder: Path, out: Path, architecture: Architecture, tokens: Tokens, *, plain: bool) -> Exported:
    template = template_of(tokens.tokenizer)
    modelfile = out.with_suffix(".Modelfile")
    write_modelfile(
        modelfile,
        out,
        template,
        context=architecture.context,
        stops=[*tokens.ends, *(STOPS if plain else ())],
        sampling=sampling_of(read_json(folder / _GENERATION)),
        start=tokens.tokens[tokens.start] if tokens.adds_start and tokens.start is not None else "",
    )
    return Exported(out, modelfile, out.stat().st_size, template, plain)
