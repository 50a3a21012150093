"""Whether PORT is free, or ours already."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Final

import httpx
from pydantic import ValidationError

from app import __version__
from app.api.health_schemas import Health
from app.doctor.check import Finding, Patient
from app.listening import listen

_SECONDS: Final = 3
_NAME: Final = "port"


async def ports(patient: Patient) -> Sequence[Finding]:
    """The port of the page."""
    settings = patient.settings
    where = f"{settings.port} of {settings.host}"
    try:
        listen(settings.host, settings.port).close()
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            return [await _taken(settings.host, settings.port, known=patient.running)]
        if problem.errno == errno.EACCES:
            advice = "ports below 1024 are root's: PORT=8000, and a web server or Docker's -p 80:8000 in front"
            return [Finding(_NAME, "problem", f"this user may not take {where}", advice)]
        advice = "HOST has to be an address of this machine; 0.0.0.0: all of them"
        return [Finding(_NAME, "problem", f"cannot listen on {where} ({problem.strerror})", advice)]
    return [Finding(_NAME, "ok", f"{where} is free; the server does not run")]


async def health_of(host: str, port: int) -> Health | None:
    """How a server of ours is; None: none answers there.

    Args:
        host, port: where it listens, as in the settings.
    """
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_SECONDS) as client:
            return Health.model_validate_json((await client.get(f"{_url(host, port)}/health")).content)
    except (httpx.HTTPError, ValidationError):
        return None


def _url(host: str, port: int) -> str:
    address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{address}:{port}"


async def _taken(host: str, port: int, *, known: bool) -> Finding:
    health = await health_of(host, port)
    if health is None:
        tells = f"lsof -i :{port}" if sys.platform == "darwin" else f"ss -ltnp 'sport = :{port}'"
        advice = f"stop what uses it ({tells} tells), or choose another: PORT={port + 1}"
        return Finding(_NAME, "problem", f"another program has {port}, or our server does not answer", advice)
    told = f"our server runs on {port}, {health.status}"
    if health.process.version != __version__:
        advice = f"restart it: it is {health.process.version}, what is installed here {__version__}"
        return Finding(_NAME, "warning", told, advice)
    if health.status == "degraded":
        return Finding(_NAME, "warning", told, f"{_url(host, port)}/health tells what is missing")
    # Its environment is its user's alone, and only Linux shows it.
    hint = "" if known else "its own settings are not to be seen from here, what was given here counts instead"
    return Finding(_NAME, "ok", told, hint)
