"""What is trained, on what and how: `training/configs/*.yaml` as values that have been checked."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Collection
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

CONFIGS: Final = Path(__file__).resolve().parent / "configs"

_NAMES: Final = {str: "text", int: "a whole number", float: "a number", bool: "yes or no"}


class ConfigError(Exception):
    """A config that cannot be used; the message says where and why."""


def _number(default: float, least: float, most: float = math.inf) -> Any:
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What is read. `source`: "files", or "guide" for the conversations that are written for the built-in guide.

    Args:
        train: files or folders (JSONL, text, or feedback exported by the app).
        held_out: the same for evaluation; empty: `held_out_share` of `train`.
        block: tokens of a row.
        teacher: the guide is taught by a classifier (`training/guide/teacher.py`), not by the questions themselves.
    """

    source: Literal["files", "guide"] = "files"
    train: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    held_out_share: float = _number(0.05, 0, 0.5)
    block: int = _number(512, 8)
    teacher: bool = False


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """A tokenizer to reuse (folder or name on the hub), or the size of the vocabulary of a new one."""

    reuse: str = ""
    vocabulary: int = _number(8192, 300)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A base to go on from (folder or name on the hub); empty: a model from scratch of these sizes."""

    base: str = ""
    architecture: Literal["gpt2", "qwen3", "llama"] = "gpt2"
    hidden: int = _number(256, 8)
    layers: int = _number(4, 1)
    heads: int = _number(4, 1)
    feed_forward: int = _number(1024, 8)
    context: int = _number(1024, 8)
    dropout: float = _number(0.1, 0, 0.9)


@dataclass(frozen=True, slots=True)
class LoraPart:
    """Small matrices beside the base's, which are trained in its place. `targets`: empty for what peft takes."""

    rank: int = _number(16, 1)
    alpha: int = _number(32, 1)
    dropout: float = _number(0.05, 0, 0.9)
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How it is trained. One of `steps` and `epochs` is given.

    Args:
        batch_tokens: tokens read at once; `accumulate` times as many make a step.
        warmup: share of the steps in which the learning rate rises; it falls along a cosine to `lowest` of its height.
        average: decay of the moving average of the weights, which is evaluated and saved; 0: the weights as they are.
        evaluate_batches: the most of what is held out that an evaluation reads, spread over all of it.
        keep: newest checkpoints that stay; the best model is in the run's `model`.
        patience: evaluations without a better one after which training ends; 0: it goes on.
        recompute: computes what the way back needs a second time, which takes less memory and more time.
        threads: of the processor; 0: as torch thinks.
    """

    steps: int = _number(0, 0)
    epochs: float = _number(0, 0)
    batch_tokens: int = _number(4096, 8)
    accumulate: int = _number(1, 1)
    learning_rate: float = _number(1e-3, 1e-9, 1)
    weight_decay: float = _number(0.1, 0, 1)
    warmup: float = _number(0.03, 0, 1)
    lowest: float = _number(0.05, 0, 1)
    clip: float = _number(1.0, 0)
    optimizer: Literal["adamw", "muon"] = "adamw"
    average: float = _number(0.0, 0, 0.99999)
    evaluate_every: int = _number(100, 1)
    evaluate_batches: int = _number(100, 1)
    save_every: int = _number(100, 1)
    keep: int = _number(2, 1)
    patience: int = _number(0, 0)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    recompute: bool = False
    threads: int = _number(0, 0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """A whole config; `name` is that of its file unless it says another."""

    name: str
    seed: int = _number(20261121, 0, 2**31)
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    lora: LoraPart | None = None
    training: LoopConfig = LoopConfig()


def load_config(path: str | Path, train: str = "") -> TrainingConfig:
    """Read a config.

    Args:
        path: a file, or the name of one in `training/configs`.
        train: a file or folder to train on in place of what the config names.

    Raises:
        ConfigError: it is missing, is no YAML, has an unknown key, a value of the wrong type or out of range.
    """
    import yaml

    file = _find(path)
    try:
        text = file.read_text(encoding="utf-8")
        twice = _twice(yaml.compose(text))
        read = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise ConfigError(f"{file} cannot be read: {' '.join(str(problem).split())}") from None
    if not isinstance(read, dict):
        raise ConfigError(f"{file} is not a config: it should hold keys and values, such as `seed: 1`")
    try:
        if twice:
            raise ConfigError(f"{twice} is there twice; take one out")
        config: TrainingConfig = _part(TrainingConfig, {"name": file.stem} | read, "")
        if train:
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, train=(train,), held_out=()))
        _check(config)
    except ConfigError as problem:
        raise ConfigError(f"{file}: {problem}") from None
    return config


def as_dict(config: TrainingConfig) -> dict[str, Any]:
    """The config as its YAML holds it, every default written out."""
    return {
        key: _plain(value) for key, value in dataclasses.asdict(config).items() if not (key == "lora" and value is None)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _twice(node: Any, place: str = "") -> str:
    """The first key of a YAML tree that its mapping has twice, of which YAML would take the last; empty if none."""
    import yaml

    seen: set[str] = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name = f"{place}.{key.value}" if place else str(key.value)
        if name in seen:
            return name
        seen.add(name)
        if found := _twice(value, name):
            return found
    return ""


def _find(path: str | Path) -> Path:
    file = Path(path)
    if file.is_file():
        return file
    known = sorted(found.stem for found in CONFIGS.glob("*.yaml"))
    if str(path) in known:
        return CONFIGS / f"{path}.yaml"
    near = difflib.get_close_matches(file.stem, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"{path} does not exist; {hint}training/configs has {', '.join(known)}")


def _part(kind: Any, read: Any, place: str) -> Any:
    """A dataclass from what YAML holds for it; `place` is the dotted key before it."""
    if not isinstance(read, dict):
        raise ConfigError(f"{place} should hold keys and values, not {_shown(read)}")
    fields = {known.name: known for known in dataclasses.fields(kind)}
    for key in read:
        if key not in fields:
            within = f" in {place}" if place else ""
            raise ConfigError(f"there is no {key!r}{within}; the nearest known key is {_nearest(str(key), fields)!r}")
    hints = get_type_hints(kind)
    values = {
        key: _value(hints[key], value, fields[key].metadata, f"{place}.{key}" if place else key)
        for key, value in read.items()
    }
    missing = [name for name, known in fields.items() if name not in values and known.default is MISSING]
    if missing:
        raise ConfigError(f"{', '.join(missing)} is missing{f' in {place}' if place else ''}")
    return kind(**values)


def _nearest(key: str, fields: Collection[str]) -> str:
    """The key that was meant: one of these fields, or one that stands elsewhere by this very name."""
    hints = get_type_hints(TrainingConfig)
    if key in hints:
        return key
    for part, kind in hints.items():
        kind = get_args(kind)[0] if isinstance(kind, types.UnionType) else kind
        if dataclasses.is_dataclass(kind) and key in {known.name for known in dataclasses.fields(kind)}:
            return f"{part}.{key}"
    return difflib.get_close_matches(key, list(fields), 1, 0.0)[0]


def _value(kind: Any, value: Any, limits: typing.Mapping[str, float], place: str) -> Any:
    if isinstance(kind, types.UnionType):
        if value is None:
            raise ConfigError(f"{place} is empty; write `{place}: {{}}` for its defaults, or take it out")
        return _value(get_args(kind)[0], value, limits, place)
    if dataclasses.is_dataclass(kind):
        return _part(kind, value, place)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{place} should be one of {', '.join(get_args(kind))}, not {_shown(value)}")
        return value
    if get_origin(kind) is tuple:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigError(f"{place} should be a list of texts, not {_shown(value)}")
        return tuple(value)
    return _scalar(kind, value, limits, place)


def _scalar(kind: Any, value: Any, limits: typing.Mapping[str, float], place: str) -> Any:
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            value = float(value)  # YAML takes 1e-3, which has no dot, for text
        except ValueError:
            raise ConfigError(f"{place} should be a number, not {_shown(value)}") from None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{place} should be {_NAMES[kind]}, not {_shown(value)}")
    if value == math.inf:
        raise ConfigError(f"{place} should be a number, not without end")
    if limits and not limits["least"] <= value <= limits["most"]:
        most = f" and {limits['most']:g} at most" if limits["most"] < math.inf else ""
        raise ConfigError(f"{place} should be {limits['least']:g} at least{most}, not {value:g}")
    return value


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def _check(config: TrainingConfig) -> None:
    """What hangs together."""
    data, model, loop = config.data, config.model, config.training
    if not config.name or Path(config.name).name != config.name or config.name.startswith("."):
        raise ConfigError(f"name should be able to name a folder, not {config.name!r}")
    if data.source == "files" and not data.train:
        raise ConfigError("data.train names no file or folder to train on (or give one by DATA=folder)")
    if data.source == "files" and data.teacher:
        raise ConfigError("data.teacher has a meaning for the guide alone, whose questions it knows")
    if data.source == "guide" and data.train:
        raise ConfigError("data.train has no meaning for the guide: its conversations are written from its knowledge")
    if data.source == "guide" and (model.base or config.lora or model.architecture != "qwen3"):
        raise ConfigError("the guide is a qwen3 from scratch: model.architecture should be qwen3, without base or lora")
    if bool(loop.steps) == bool(loop.epochs):
        raise ConfigError("training should have one of steps and epochs")
    if data.source == "guide" and not loop.steps:
        raise ConfigError("training.steps is missing: the guide's conversations have no end, so there are no epochs")
    if not model.base and model.hidden % model.heads:
        raise ConfigError(f"model.hidden ({model.hidden}) should be a multiple of model.heads ({model.heads})")
    if not model.base and model.architecture != "gpt2" and model.hidden // model.heads % 2:
        raise ConfigError(
            f"model.hidden by model.heads should be even for {model.architecture}, whose heads turn pairs"
        )
    if not model.base and data.block > model.context:
        raise ConfigError(f"data.block ({data.block}) should be model.context ({model.context}) at most")
    if loop.batch_tokens < data.block:
        raise ConfigError(f"training.batch_tokens ({loop.batch_tokens}) should be data.block ({data.block}) at least")
    if config.lora and not model.base:
        raise ConfigError("lora needs model.base: a model to put it beside")
