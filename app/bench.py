"""`python -m app.bench --quick`: how fast this server is, and which model sizes are sensible on it.

What the README's figures come from is another thing: `make bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from app.assembly.answering import Answering, answering
from app.command_line import be_quiet
from app.doctor.machine import machine_or_none
from app.doctor.ports import health_of
from app.engines.base import ModelInfo
from app.errors import ChatError
from app.machine import MIB, Machine
from app.model_sizes import Expected, expected
from app.running import take_over
from app.settings import Settings, on_this_machine, settings_or_exit
from app.trial import Measured, Trial
from app.windows import Windows

_QUICK: Final = 120.0
_THOROUGH: Final = 300.0
_HOW: Final = (
    "Expected: the measured tokens/s times the size of its file over theirs, for each token reads all weights once.\n"
    "Their files are taken as 4-bit ones; good: 8 tokens/s and more, slow: 3 and more.\n"
    "The memory is the machine's; that of a graphics card is not looked at."
)


class NoModel(Exception):
    """There is nothing to measure. The message is one line."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was found.

    Attributes:
        whole: the time was enough for all of it.
        replies: that the running server's engines worked on at the start; None: no server runs here.
        machine: where the engine runs; None: not known.
    """

    model: str
    size: int | None
    measured: Measured
    whole: bool
    replies: int | None
    machine: Machine | None
    sizes: Sequence[Expected]

    def as_json(self) -> str:
        told: dict[str, Any] = {
            "model": self.model,
            "file_bytes": self.size,
            "whole": self.whole,
            "server_running": self.replies is not None,
            "server_replies": self.replies,
            "cores": self.machine.cores if self.machine else None,
            "memory_bytes": self.machine.memory if self.machine else None,
            **asdict(self.measured),
            "sizes": [asdict(size) | {"verdict": size.verdict} for size in self.sizes],
        }
        return json.dumps(told, ensure_ascii=False, indent=2)

    def as_text(self) -> str:
        found, machine = self.measured, self.machine
        where = f", {machine.cores:g} cores, {machine.memory // MIB:,} MiB" if machine else ""
        lines = [f"{self.model}{where}"]
        if self.replies is not None:
            several = "1 reply is" if self.replies == 1 else f"{self.replies} replies are"
            busy = f"{several} being written" if self.replies else "nobody is answered right now"
            lines.append(f"The server runs ({busy}): others may use the engine meanwhile, then these figures are low.")
        lines.append("")
        if found.load_seconds is not None:
            lines.append(f"loading           {found.load_seconds:8.1f} s")
        lines += [
            _line("first token", found.first_token_seconds, "s", "of a short message", digits=2),
            _line("reading a prompt", found.prompt_speed, "tokens/s", f"{found.prompt_tokens} tokens that were new"),
            _line(
                "writing",
                found.generation_speed,
                "tokens/s",
                f"{found.reply_tokens} tokens{', estimated' if found.estimated else ''}",
            ),
        ]
        if not self.whole:
            lines.append("The time was not enough for all of it: more by --seconds.")
        lines += ["", f"{'size':<6}{'such as':<14}{'file, MB':>9}{'memory, MiB':>13}{'tokens/s':>10}  verdict"]
        for size in self.sizes:
            speed = "?" if size.tokens_per_second is None else f"{size.tokens_per_second:.1f}"
            lines.append(
                f"{size.name:<6}{size.example:<14}{size.file_bytes / 1e6:>9,.0f}{size.memory_bytes // MIB:>13,}"
                f"{speed:>10}  {size.verdict}"
            )
        return "\n".join([*lines, "", _HOW])


def _line(name: str, value: float | None, unit: str, with_what: str, digits: int = 1) -> str:
    if value is None:
        return f"{name:<18}       - not measured"
    return f"{name:<18}{value:8.{digits}f} {unit} ({with_what})"


async def measure(settings: Settings, name: str, seconds: float) -> Result:
    """Measure a model.

    Args:
        settings: of the server.
        name: of the model; empty: the default one.
        seconds: that it may take, from now on.

    Raises:
        NoModel: no engine has one.
        ChatError: the engine fails, or has not that model.
    """
    until = asyncio.get_running_loop().time() + seconds
    health = await health_of(settings.host, settings.port)
    answers = answering(settings, Windows())
    try:
        model = await _model(answers, name)
        catalog = answers.chat.catalog
        context = catalog.context_length(model)
        trial = Trial(
            catalog.engine_of(model), model, context, seconds, lambda doing: print(f"... {doing}", file=sys.stderr)
        )
        whole = True
        try:
            async with asyncio.timeout_at(until):
                await trial.run()
        except TimeoutError:
            whole = False
    finally:
        await answers.close()
    urls = {"ollama": settings.ollama_host, "vllm": settings.vllm_url}
    machine = machine_or_none() if on_this_machine(urls.get(model.engine, "http://localhost")) else None
    found = trial.measured
    sizes = expected(found.generation_speed, model.size, machine, settings.num_ctx, settings.ollama_slots)
    return Result(model.id, model.size, found, whole, health.process.replies if health else None, machine, sizes)


async def _model(answers: Answering, name: str) -> ModelInfo:
    if name:
        return await answers.chat.catalog.find(name)
    model = (await answers.finder.choice()).model
    if model is None:
        raise NoModel("no engine answers. Start Ollama (ollama serve) and pull a model, or set OLLAMA_HOST or VLLM_URL")
    return model


def _seconds(text: str) -> float:
    value = float(text)
    if not 5 <= value <= 3600:
        raise argparse.ArgumentTypeError("it takes 5 to 3600 seconds")
    return value


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 measured, 1 not measured, 2 not understood, 130 stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m app.bench",
        description="Measure how fast this server's model is, and tell which sizes of models are sensible here. "
        "Its requests go past the queue: who chats meanwhile waits a little longer.",
    )
    parser.add_argument("--quick", action="store_true", help="two minutes at most; otherwise five")
    parser.add_argument("--seconds", type=_seconds, help="another bound")
    parser.add_argument("--model", default="", help="another model than the default one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(words)
    logging.basicConfig(level=logging.CRITICAL)
    take_over(os.environ)
    settings = settings_or_exit()
    seconds = arguments.seconds or (_QUICK if arguments.quick else _THOROUGH)
    try:
        result = asyncio.run(measure(settings, arguments.model, seconds))
    except (ChatError, NoModel) as problem:
        print(f"chainlit-ollama: nothing was measured: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("chainlit-ollama: stopped", file=sys.stderr)
        return 130
    try:
        print(result.as_json() if arguments.json else result.as_text(), flush=True)
    except BrokenPipeError:
        be_quiet()
        return 1
    if result.measured.generation_speed is None:
        print(f"chainlit-ollama: no reply within {seconds:g} s", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
