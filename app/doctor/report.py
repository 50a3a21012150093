"""Makes all checks at once, and writes down what they found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from app.doctor.access import access
from app.doctor.check import Check, Finding, Patient
from app.doctor.clock import clock
from app.doctor.counting import counting
from app.doctor.database import database
from app.doctor.disks import disks
from app.doctor.machine import machine
from app.doctor.model import model
from app.doctor.ollama import ollama
from app.doctor.other_engines import openai_server, transformers
from app.doctor.ports import ports
from app.doctor.secrets import secrets

CHECKS: Final = (
    Check("machine", machine),
    Check("disks", disks),
    Check("port", ports),
    Check("ollama", ollama),
    Check("VLLM_URL", openai_server),
    Check("transformers", transformers),
    Check("model", model),
    Check("database", database),
    Check("secrets", secrets),
    Check("clock", clock),
    Check("access", access),
    Check("tiktoken's table", counting),
)
# Seconds that all checks together have.
PATIENCE: Final = 6.5


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        findings: in the order of the checks.
        unfinished: a check did not end; what it waits for may hold the process, too.
    """

    findings: tuple[Finding, ...]
    unfinished: bool

    @property
    def exit_code(self) -> int:
        """1: there is a problem; 0: there is none, or warnings only."""
        return int(any(finding.status == "problem" for finding in self.findings))

    def as_json(self) -> str:
        """`{"status": ..., "checks": [{"name", "status", "found", "advice"}, ...]}`."""
        worst = max((finding.status for finding in self.findings), key=("ok", "warning", "problem").index, default="ok")
        checks = [asdict(finding) for finding in self.findings]
        return json.dumps({"status": worst, "checks": checks}, ensure_ascii=False, indent=2)

    def as_table(self) -> str:
        """A line for each finding, and under it what to do."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.status:<8} {finding.name:<{width}}  {finding.found}")
            if finding.advice:
                lines.append(f"{'':<8} {'':<{width}}  -> {finding.advice}")
        counts = {status: sum(f.status == status for f in self.findings) for status in ("problem", "warning", "ok")}
        told = (f"{count} {name}{'' if count == 1 or name == 'ok' else 's'}" for name, count in counts.items())
        lines += ["", ", ".join(told)]
        return "\n".join(lines)


async def examine(patient: Patient, checks: Sequence[Check] = CHECKS, patience: float = PATIENCE) -> Report:
    """Make all checks at once.

    Args:
        patience: seconds after which a check that has not ended is left alone.
    """
    tasks = [asyncio.create_task(_look(check, patient)) for check in checks]
    _, pending = await asyncio.wait(tasks, timeout=patience)
    for task in pending:
        task.cancel()
    findings = list(patient.wrong) or [Finding("settings", "ok", "all allowed")]
    for check, task in zip(checks, tasks, strict=True):
        if task in pending:
            advice = "what it looks at hangs: a disk of the network, a name server, a server that accepts and is silent"
            findings.append(Finding(check.name, "problem", f"no answer within {patience:g} s", advice))
        else:
            findings += task.result()
    return Report(tuple(findings), bool(pending))


async def _look(check: Check, patient: Patient) -> Sequence[Finding]:
    try:
        return await check.look(patient)
    except PermissionError as problem:
        told = f"{problem.filename or check.name} cannot be looked at by this user"
        return [Finding(check.name, "warning", told, "run this as the server's user")]
    except Exception as problem:  # noqa: BLE001 - the other checks' findings are worth having all the more
        told = f"the check itself broke: {type(problem).__name__}"
        return [Finding(check.name, "problem", told, "please report this, with what is special about this machine")]
