"""Which sizes of models are sensible on a machine, worked out from the speed of one.

To write a token, every weight is read from memory once. That takes nearly all of the time, so the speed of another
model is that of the measured one times the size of its file over the other's: tokens/s x bytes = bytes/s, which is the
machine's. (Not so for mixtures of experts, which read a part of their weights only.) The memory is that of
`app.sizing`: the file, buffers, and a key-value cache for each token of the context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.machine import Machine
from app.sizing import KV_BYTES, RESERVED, model_bytes

Verdict = Literal["good", "slow", "too slow", "does not fit", "not known"]

# Bytes of a parameter in 4-bit files, their larger tables included: gemma2:2b has 1,629 MB for 2.61 billion.
_BYTES_A_PARAMETER: Final = 0.624
# Whose file is smaller tells nothing of larger ones: reading its weights is not what takes its time.
_TELLING: Final = 250_000_000
# Tokens per second: somebody who reads along reads 5 to 8 of them.
_GOOD: Final = 8.0
_BEARABLE: Final = 3.0


@dataclass(frozen=True, slots=True)
class SizeClass:
    """A size that models come in.

    Attributes:
        name: as people call it.
        example: one of Ollama's library.
        parameters: of the example.
        kv: bytes of key-value cache for each token, of the example.
    """

    name: str
    example: str
    parameters: float
    kv: int

    @property
    def file(self) -> int:
        """Bytes of a 4-bit file."""
        return int(self.parameters * _BYTES_A_PARAMETER)


CLASSES: Final = (
    SizeClass("1B", "llama3.2:1b", 1.24e9, 32 * 1024),
    SizeClass("2B", "gemma2:2b", 2.61e9, KV_BYTES),
    SizeClass("4B", "qwen3:4b", 4.02e9, 144 * 1024),
    SizeClass("8B", "llama3.1:8b", 8.03e9, 128 * 1024),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a class would be like here.

    Attributes:
        file_bytes: of a model in it, in 4 bits.
        memory_bytes: that it takes with the context.
        fits: None: the memory of the engine's machine is not known.
        tokens_per_second: expected; None: the measured model does not tell.
    """

    name: str
    example: str
    file_bytes: int
    memory_bytes: int
    fits: bool | None
    tokens_per_second: float | None

    @property
    def verdict(self) -> Verdict:
        if self.fits is False:
            return "does not fit"
        if self.tokens_per_second is None:
            return "not known"
        if self.tokens_per_second >= _GOOD:
            return "good"
        return "slow" if self.tokens_per_second >= _BEARABLE else "too slow"


def expected(
    speed: float | None, size: int | None, machine: Machine | None, context: int, slots: int = 1
) -> Sequence[Expected]:
    """Each class on this machine.

    Args:
        speed: tokens per second that were measured.
        size: of the measured model's file, in bytes; None: not known.
        machine: where the engine runs; None: not known.
        context: num_ctx, in tokens.
        slots: conversations at once.
    """
    bandwidth = speed * size if speed is not None and size is not None and size >= _TELLING else None
    found = []
    for kind in CLASSES:
        memory = model_bytes(kind.file, kind.kv, context, slots)
        found.append(
            Expected(
                kind.name,
                kind.example,
                kind.file,
                memory,
                None if machine is None else memory <= machine.memory - RESERVED,
                None if bandwidth is None else bandwidth / kind.file,
            )
        )
    return found
