"""A real PostgreSQL as a process of its own, in a temporary folder, on a free port.

It takes Debian's package `postgresql`; where that is missing, or the user is root and there is no user `postgres`, the
tests that need it are skipped with that reason.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import pytest

from tests.site import free_port

T = TypeVar("T")

_PATIENCE: Final = 60.0
_OWNER: Final = "postgres"
USER: Final = "chat"
PASSWORD: Final = "secret word"
_QUOTED: Final = "secret%20word"


class Postgres:
    """A server that can be stopped and started again.

    Args:
        durable: with PostgreSQL's own settings: a commit is on the disk when it is answered. For measurements.
        within: given its folder, what runs a command in a container that sees that and the machine's network.
    """

    def __init__(self, *, durable: bool = False, within: Callable[[Path], Sequence[str]] = lambda _: ()) -> None:
        self._durable = durable
        self._within = within
        self.port = free_port()
        self._binaries, self._as_owner = _binaries(), _as_owner()
        self._folder = Path(tempfile.mkdtemp(prefix="chat-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        password = self._folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        if self._as_owner:
            for path in (self._folder, password):
                shutil.chown(path, _OWNER, _OWNER)
        # Without a locale, as in many containers: nothing of ours may depend on it.
        self._run(
            "initdb",
            "-U",
            USER,
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
            "-D",
            str(self._folder / "data"),
        )

    def start(self) -> None:
        """Fine if it runs already."""
        if self._process is not None:
            return
        options: dict[str, str] = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self._folder)}
        if not self._durable:
            options |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [
            *self._within(self._folder),
            *self._as_owner,
            str(self._binaries / "postgres"),
            "-D",
            str(self._folder / "data"),
            "-p",
            str(self.port),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *arguments], cwd="/", stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._run("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), check=False) == 0:
                return
            time.sleep(0.05)
        raise RuntimeError((self._folder / "log").read_text(encoding="utf-8", errors="replace"))

    def stop(self) -> None:
        """Connections are cut off; nothing is lost. Fine if it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=_PATIENCE)
            self._process = None

    def crash(self) -> None:
        """As after a power cut, but for what the system still has in memory. Fine if it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=_PATIENCE)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str, password: str = _QUOTED) -> str:
        return f"postgresql+asyncpg://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    async def new_database(self, options: str = "") -> str:
        """Make an empty database; returns its name."""
        self._made += 1
        name = f"chat_{self._made}"
        await self.execute(f"CREATE DATABASE {name} {options}")
        return name

    async def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, database=database
        )
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    def drop_all(self) -> None:
        """Drop the databases of one test."""

        async def drop() -> None:
            for row in await self.execute("SELECT datname FROM pg_database WHERE datname LIKE 'chat_%'"):
                await self.execute(f"DROP DATABASE {row['datname']} WITH (FORCE)")

        wait_for(drop)

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        command = [*self._as_owner, str(self._binaries / program), *arguments]
        return subprocess.run(command, cwd="/", check=check, capture_output=True).returncode


def wait_for(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What an asynchronous function returns, in a test that is not, where Playwright may have a loop in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()


def database_of(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables of a server with an empty database of the kind that a fixture is asked for by its parameter."""
    if request.param == "sqlite":
        return {}
    postgres: Postgres = request.getfixturevalue("postgres_server")
    return {"DATABASE_URL": postgres.url(wait_for(postgres.new_database))}


def _binaries() -> Path:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    folders = [folder for folder in folders if (folder / "initdb").exists()]
    if folders:
        return folders[-1]
    found = shutil.which("initdb")
    if found is None:
        pytest.skip("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return Path(found).resolve().parent


def _as_owner() -> list[str]:
    """What starts a command as another user: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam(_OWNER)
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return ["setpriv", f"--reuid={_OWNER}", f"--regid={_OWNER}", "--init-groups"]
