"""What fits a machine: how many threads, how large a context, how much memory for what.

`python -m app.sizing` prints it as shell assignments that leave alone what is set already; entrypoint.sh runs them.
The figures were measured with Ollama 0.32, gemma2:2b in Q4_0, num_batch 64, two threads:

| num_ctx | 1,024 | 2,048 | 4,096 | 8,192 |
| --- | --- | --- | --- | --- |
| its process, MiB | 1,725 | 1,829 | 2,037 | 2,259, and 177 more with LLAMA_ARG_SWA_FULL=1 |

That is the file (1,554 MiB), 67 MiB of buffers, and 104 KiB of key-value cache for each token of the context.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.machine import MIB, Machine, this_machine

# gemma2:2b, where a model's own numbers are not known yet.
FILE_BYTES: Final = 1_629_276_160
KV_BYTES: Final = 104 * 1024
# What a model's process takes beside its file and its key-value cache.
BUFFER_BYTES: Final = 67 * MIB

# For everything else in the container: this program (under 200 MiB), Ollama's own process, a little air.
RESERVED: Final = 320 * MIB
# Context lengths to choose from. On a small CPU a longer one is no gift: 8,192 tokens are read in 150 s.
CONTEXTS: Final = (8192, 4096, 2048, 1024)
# Whole conversations that should fit into the prompt cache beside the one in the slot: while two visitors take turns,
# it holds the one who leaves beside the one who comes back.
_CACHED: Final = 2
# Share of what is left that the prompt cache may use, in MiB at most (llama-server's own default), at least (or none).
_CACHE_SHARE: Final = 0.8
_CACHE_MOST: Final = 8192
_CACHE_LEAST: Final = 64
# Share of the memory that all together may take with the cache full: at 0.9 MEMORY_GUARD refuses new replies.
_FULL: Final = 0.85
_GUARDED: Final = 0.9
# A context of so many tokens is worth more than a prompt cache for two.
_SHORT: Final = 2048


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits.

    Attributes:
        num_thread: threads of the engine.
        num_ctx: context length in tokens, of each slot.
        cache_ram: llama-server's prompt cache, in MiB; 0: none.
        model_memory: what a model's process may take at most, beside the cache, in MiB.
    """

    num_thread: int
    num_ctx: int
    cache_ram: int
    model_memory: int


def model_bytes(file: int, kv: int, context: int, slots: int = 1) -> int:
    """What a model's process takes.

    Args:
        file: size of the model's file in bytes.
        kv: bytes of key-value cache for each token.
        context: num_ctx, in tokens.
        slots: conversations that it answers at once, each with a context of its own.
    """
    return file + BUFFER_BYTES + kv * context * slots


def plan(
    machine: Machine,
    file: int = FILE_BYTES,
    kv: int = KV_BYTES,
    slots: int = 1,
    context: int = 0,
    decided: int | None = None,
) -> Plan:
    """The longest context that leaves room for a useful prompt cache; a short one needs none; the shortest always.

    Args:
        machine: what there is.
        file, kv, slots: as in `model_bytes`.
        context: num_ctx where somebody has decided on it; 0: to be found.
        decided: the prompt cache in MiB where somebody has decided on it; less than none: without bound.
    """
    usable = max(machine.memory - RESERVED, 0)

    def cache(context: int) -> int:
        """Bytes for the prompt cache; less than none: the model itself does not fit, or just so."""
        model = model_bytes(file, kv, context, slots)
        return min(int(_CACHE_SHARE * (usable - model)), int(_FULL * machine.memory) - RESERVED - model)

    def fits(context: int) -> bool:
        if context > _SHORT:
            return cache(context) >= _CACHED * kv * context
        return model_bytes(file, kv, context, slots) + RESERVED <= _GUARDED * machine.memory

    context = context or next(filter(fits, CONTEXTS), CONTEXTS[-1])
    left = cache(context) // MIB
    cached = min(left, _CACHE_MOST) if left >= _CACHE_LEAST else 0
    if decided is not None:
        cached = decided
    room = max(usable // MIB - max(cached, 0), 0)
    return Plan(num_thread=max(int(machine.cores), 1), num_ctx=context, cache_ram=cached, model_memory=room)


def leaves_room(machine: Machine, found: Plan, file: int = FILE_BYTES, slots: int = 1) -> bool:
    """Whether a plan with a full cache stays well below where MEMORY_GUARD refuses. A model that fills a small machine
    by itself does not, nor does a cache that somebody has chosen too large, which never becomes smaller again: there
    the guard would refuse everything, so it is off.

    Args:
        machine, file, slots: as in `plan`.
        found: the plan.
    """
    model = model_bytes(file, KV_BYTES, found.num_ctx, slots)
    return found.cache_ram >= 0 and RESERVED + model + found.cache_ram * MIB <= _FULL * machine.memory


def file_sizes(store: Path) -> list[int]:
    """Sizes of the models in Ollama's store, in bytes."""
    sizes = []
    for manifest in store.glob("manifests/*/*/*/*"):
        try:
            layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
            sizes.append(sum(layer["size"] for layer in layers if layer["mediaType"].endswith("image.model")))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a broken list; Ollama will say so
    return sizes


def largest_fitting(sizes: Iterable[int], machine: Machine) -> int:
    """The largest of some models that this machine can run at all: any visitor may choose it. In bytes; gemma2:2b's
    where there is none.
    """
    usable = machine.memory - RESERVED
    return max((size for size in sizes if model_bytes(size, KV_BYTES, CONTEXTS[-1]) <= usable), default=FILE_BYTES)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what fits this machine, as shell assignments.")
    parser.add_argument("--store", type=Path, default=Path(), help="Ollama's folder of models")
    parser.add_argument("--slots", type=int, default=1, help="replies that Ollama works on at once")
    parser.add_argument("--num-ctx", type=int, default=0, help="context length where it is given; 0: to be found")
    parser.add_argument("--cache-ram", type=int, help="prompt cache in MiB where it is given")
    arguments = parser.parse_args()
    machine = this_machine()
    # Ollama takes 0 for its own choice, which is one.
    slots = max(arguments.slots, 1)
    size = largest_fitting(file_sizes(arguments.store), machine)
    found = plan(machine, size, slots=slots, context=arguments.num_ctx, decided=arguments.cache_ram)
    values = {
        "NUM_THREAD": found.num_thread,
        "NUM_CTX": found.num_ctx,
        "MODEL_MEMORY": found.model_memory,
        "LLAMA_ARG_CACHE_RAM": found.cache_ram,
    }
    if not leaves_room(machine, found, size, slots):
        values["MEMORY_GUARD"] = 0
    for name, value in values.items():
        print(f': "${{{name}:={value}}}"; export {name}')
    print(f'MACHINE="{machine.memory // MIB} MiB, {machine.cores:g} cores"')


if __name__ == "__main__":
    main()
