"""How fast each model has been on this machine, and what that says about the next request."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any, Final

from app.engines.base import Usage

# Kept per model: enough to shrug off one odd reply, few enough to follow a machine whose load changes.
_KEPT: Final = 9
# Below this a reading or a reply is too short to time.
_MIN_TOKENS: Final = 16
_MIN_SECONDS: Final = 0.001
# Where nobody tells what was cached, a reading that much faster than known ones was most likely not a reading...
_DOUBTFUL: Final = 2.0
# ...unless so many in a row agree so closely: then the machine has become faster.
_AGREEING: Final = 4
_AGREEMENT: Final = 1.3
# Where a part was held already, as far as known, so many new tokens tell a speed.
_SURE_TOKENS: Final = 64
# More are not kept, nor read from a file.
_MOST_MODELS: Final = 200
_LONGEST_NAME: Final = 500


@dataclass(frozen=True, slots=True)
class Speed:
    """Speeds of one model. The defaults are gemma2:2b on two cores, where a new server has nothing better to go by.

    Attributes:
        prompt: prompt tokens read per second.
        generation: reply tokens per second.
        load_seconds: time to bring the model into memory.
        reply_tokens: length of a reply, on average.
    """

    prompt: float = 55.0
    generation: float = 17.8
    load_seconds: float = 7.5
    reply_tokens: float = 200.0


def _few() -> deque[float]:
    return deque(maxlen=_KEPT)


@dataclass(slots=True)
class _Seen:
    """The last replies of one model."""

    prompt: deque[float] = field(default_factory=_few)
    generation: deque[float] = field(default_factory=_few)
    load: deque[float] = field(default_factory=_few)
    reply: deque[float] = field(default_factory=_few)
    doubted: deque[float] = field(default_factory=lambda: deque(maxlen=_AGREEING))

    def read(self, speed: float, *, sure: bool) -> None:
        """A prompt was read at that speed; `sure`: the engine told which tokens it had to read."""
        if sure or not self.prompt or speed <= _DOUBTFUL * median(self.prompt):
            self.prompt.append(speed)
            self.doubted.clear()
            return
        self.doubted.append(speed)
        if len(self.doubted) == _AGREEING and max(self.doubted) <= _AGREEMENT * min(self.doubted):
            self.prompt = deque(self.doubted, maxlen=_KEPT)
            self.doubted.clear()


_NAMES: Final = ("prompt", "generation", "load", "reply")


class SpeedBook:
    """Medians of the last replies' speeds, by model id.

    Attributes:
        changed: whether something was learned since it was last written down.
    """

    def __init__(self) -> None:
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)
        self.changed = False

    def observe(self, model_id: str, usage: Usage, *, held: int = 0, cut: bool = False) -> None:
        """Learn from a finished reply. Tokens that came from a cache say nothing about reading speed.

        Args:
            model_id: of the model that wrote it.
            usage: what it took.
            held: tokens of the prompt that the engine was believed to have read before; only where it does not tell.
            cut: the reply was ended by a bound, so it says only how long replies are at least.
        """
        seen = self._seen[model_id]
        sure = usage.cached_tokens is not None
        known = held if usage.cached_tokens is None else usage.cached_tokens
        read = (usage.prompt_tokens or 0) - known
        enough = _MIN_TOKENS if sure or not held else _SURE_TOKENS
        # What was held may have been lost: as long as no speed is known, nothing tells.
        if read >= enough and usage.prompt_seconds > _MIN_SECONDS and (sure or not held or seen.prompt):
            self._read(seen, read / usage.prompt_seconds, sure=sure, guessed=not sure and held > 0)
        reply = usage.reply_tokens or 0
        if reply >= _MIN_TOKENS and usage.generation_seconds > _MIN_SECONDS:
            seen.generation.append(reply / usage.generation_seconds)
        if reply and (not cut or reply > self.of(model_id).reply_tokens):
            seen.reply.append(reply)
        if usage.load_seconds > 0.5:
            seen.load.append(usage.load_seconds)
        self.changed = True

    @staticmethod
    def _read(seen: _Seen, speed: float, *, sure: bool, guessed: bool) -> None:
        """`guessed`: a part of the prompt was left out of the reckoning. If it was lost, the speed would look low."""
        if not guessed or median(seen.prompt) <= _DOUBTFUL * speed:
            seen.read(speed, sure=sure)

    def knows(self, model_id: str) -> bool:
        """Whether it has read anything here."""
        return model_id in self._seen and bool(self._seen[model_id].prompt)

    def of(self, model_id: str) -> Speed:
        """What is known of a model's speed, the defaults where nothing is."""
        usual, seen = Speed(), self._seen.get(model_id) or _Seen()
        return Speed(
            prompt=median(seen.prompt) if seen.prompt else usual.prompt,
            generation=median(seen.generation) if seen.generation else usual.generation,
            load_seconds=median(seen.load) if seen.load else usual.load_seconds,
            reply_tokens=fmean(seen.reply) if seen.reply else usual.reply_tokens,
        )

    def as_dict(self) -> dict[str, dict[str, list[float]]]:
        """All that is known, for JSON."""
        return {
            model_id: {name: [round(value, 3) for value in getattr(seen, name)] for name in _NAMES}
            for model_id, seen in list(self._seen.items())[-_MOST_MODELS:]
        }

    def take(self, known: Mapping[str, Any]) -> None:
        """Take over what `as_dict` gave before.

        Raises:
            ValueError: it is something else; nothing of it is taken then.
        """
        found = {}
        for model_id, values in list(known.items())[:_MOST_MODELS]:
            if not isinstance(values, dict) or len(model_id) > _LONGEST_NAME:
                raise ValueError("no speeds of a model")
            found[model_id] = _Seen(**{name: _numbers(values.get(name, [])) for name in _NAMES})
        self._seen.update(found)


def _numbers(values: object) -> deque[float]:
    if not isinstance(values, list) or not all(_is_speed(value) for value in values):
        raise ValueError("no list of positive numbers")
    return deque(map(float, values), maxlen=_KEPT)


def _is_speed(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
