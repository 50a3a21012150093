"""A real Redis as a process of its own, in a temporary folder, on a free port.

It takes Debian's package `redis-server`; where that is missing, the tests that need it are skipped with that reason.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.site import free_port

_PATIENCE: Final = 20.0
PASSWORD: Final = "secret-word-of-redis"


class Redis:
    """A server that can be stopped and started again, then empty.

    Args:
        folder: for all that it writes.
        within: what runs a command in a container that sees the folder and the machine's network.
    """

    def __init__(self, folder: Path, *, within: Sequence[str] = ()) -> None:
        program = shutil.which("redis-server", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/bin")
        if program is None:
            pytest.skip("no redis-server on this machine; on Debian or Ubuntu: apt-get install redis-server")
        self._command = [*within, program]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Fine if it runs already."""
        if self._process is not None:
            return
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "requirepass": PASSWORD,
            "save": "",
            "dir": str(self._folder),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self._folder / "redis.log").open("ab") as log:
            command = [*self._command, *arguments]
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError((self._folder / "redis.log").read_text())

    def stop(self) -> None:
        """Fine if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
