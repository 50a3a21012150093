"""A real nginx, with a configuration of deploy/ as it stands but for ports, certificate and the servers behind it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from app.settings import ROOT
from tests.site import Program, free_port

_PATIENCE: Final = 20.0
_LETSENCRYPT: Final = "/etc/letsencrypt/live/chat.example.org"
# All that nginx writes is in the folder. One process, so that none is left over, and none that may not look in there.
_MAIN: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/chat.conf;
}}
"""


@contextmanager
def nginx(
    folder: Path, configuration: str, places: Mapping[str, str], *, within: Sequence[str] = ()
) -> Iterator[tuple[Program, int]]:
    """nginx, its address the one for https; and its port for plain http.

    Args:
        folder: for all that it writes.
        configuration: a file of deploy/.
        places: what is written in it in place of what; each is there once.
        within: what runs a command in a container that sees the folder and the machine's network.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("no nginx on this machine; on Debian or Ubuntu: apt-get install nginx-light")
    plain, tls = free_port(), free_port()
    _make_certificate(folder)
    text = (ROOT / "deploy" / configuration).read_text(encoding="utf-8")
    for ours, here in (
        {
            "listen 80;": f"listen {plain};",
            "listen [::]:80;": f"listen [::]:{plain};",
            "listen 443 ": f"listen {tls} ",
            "listen [::]:443 ": f"listen [::]:{tls} ",
            f"{_LETSENCRYPT}/fullchain.pem": f"{folder}/fullchain.pem",
            f"{_LETSENCRYPT}/privkey.pem": f"{folder}/privkey.pem",
        }
        | dict(places)
    ).items():
        assert text.count(ours) == 1, ours
        text = text.replace(ours, here)
    (folder / "chat.conf").write_text(text, encoding="utf-8")
    (folder / "main.conf").write_text(_MAIN.format(folder=folder), encoding="utf-8")
    log = folder / "nginx.log"
    command = [*within, program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "main.conf")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    running = Program(f"https://127.0.0.1:{tls}", process, log)
    try:
        _wait_for(tls, running)
        yield running, plain
    finally:
        running.stop()


def _make_certificate(folder: Path) -> None:
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "privkey.pem")]
    name = ["-subj", "/CN=chat.example.org", "-days", "2", "-out", str(folder / "fullchain.pem")]
    subprocess.run(["openssl", "req", "-x509", *key, *name], check=True, capture_output=True, timeout=60)


def _wait_for(port: int, nginx: Program) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and nginx.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nginx did not come up:\n{nginx.text()}")
