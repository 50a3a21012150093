"""The server that runs on this machine, for commands beside it: they need the settings that it has.

Some of them are nowhere but in its own environment: entrypoint.sh finds them out (app/sizing.py), and `docker exec` or
another terminal does not have them.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Final

from app.settings import ROOT, Settings, variable_names

_COMMAND: Final = ["-m", "app"]
_PROC: Final = Path("/proc")


def take_over(environment: MutableMapping[str, str], proc: Path = _PROC, root: Path = ROOT) -> int | None:
    """Set what the running server has set, except for what the command was given otherwise.

    Args:
        environment: of this command; changed.
        proc: where Linux tells of processes; elsewhere there is none, and nothing is changed.
        root: the folder that the server was started in.

    Returns:
        Its process; None: none runs, several do, or it is another user's.
    """
    servers = [(pid, own) for pid in _servers(proc, root) if (own := _environment(pid)) is not None]
    port = environment.get("PORT")
    if len(servers) > 1:
        servers = [(pid, own) for pid, own in servers if own.get("PORT") == port]
    if len(servers) != 1:
        return None
    pid, own = servers[0]
    given = _environment(_parent(pid)) or {}
    for name in {name for field in Settings.model_fields for name in variable_names(field)}:
        # What both were given, entrypoint.sh may have changed for the server.
        if name in own and environment.get(name) == given.get(name):
            environment[name] = own[name]
    return int(pid.name)


def _servers(proc: Path, root: Path) -> Iterator[Path]:
    for pid in proc.glob("[0-9]*"):
        try:
            command = (pid / "cmdline").read_text(encoding="utf-8", errors="replace").rstrip("\0").split("\0")
            if command[1:] == _COMMAND and (pid / "cwd").resolve(strict=True) == root:
                yield pid
        except OSError:
            continue  # it has ended, or is another user's


def _environment(pid: Path) -> dict[str, str] | None:
    try:
        text = (pid / "environ").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return dict(part.split("=", 1) for part in text.split("\0") if "=" in part)


def _parent(pid: Path) -> Path:
    try:
        # After the program's name, which stands in brackets and may hold anything: its state, its parent.
        return pid.parent / (pid / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]
    except (OSError, IndexError):
        return pid.parent / "-"
