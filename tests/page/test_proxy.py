"""The page behind nginx, with deploy/nginx.conf as it stands but for ports and certificate."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
from playwright.sync_api import WebSocket

from app.settings import ROOT
from tests.browser import PATIENCE, Chat
from tests.site import Program, fake_ollama, free_port, server

_CONFIGURATION: Final = ROOT / "deploy" / "nginx.conf"
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


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, int]]:
    """nginx in front of our server, its address the one for https; and its port for plain http."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("no nginx on this machine; on Debian or Ubuntu: apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("proxy")
    with (
        fake_ollama(folder, "--load-seconds", "0", "--speed", "10") as ollama,
        server(folder, OLLAMA_HOST=ollama.url) as site,
        _nginx(program, folder, site) as running,
    ):
        yield running


@contextmanager
def _nginx(program: str, folder: Path, site: Program) -> Iterator[tuple[Program, int]]:
    plain, tls = free_port(), free_port()
    _make_certificate(folder)
    text = _CONFIGURATION.read_text(encoding="utf-8")
    for ours, here in {
        "listen 80;": f"listen {plain};",
        "listen [::]:80;": f"listen [::]:{plain};",
        "listen 443 ": f"listen {tls} ",
        "listen [::]:443 ": f"listen [::]:{tls} ",
        f"{_LETSENCRYPT}/fullchain.pem": f"{folder}/fullchain.pem",
        f"{_LETSENCRYPT}/privkey.pem": f"{folder}/privkey.pem",
        "http://127.0.0.1:8000;": f"{site.url};",
    }.items():
        assert text.count(ours) == 1, ours
        text = text.replace(ours, here)
    (folder / "chat.conf").write_text(text, encoding="utf-8")
    (folder / "main.conf").write_text(_MAIN.format(folder=folder), encoding="utf-8")
    log = folder / "nginx.log"
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "main.conf")]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    nginx = Program(f"https://127.0.0.1:{tls}", process, log)
    try:
        _wait_for(tls, nginx)
        yield nginx, plain
    finally:
        nginx.stop()


def _make_certificate(folder: Path) -> None:
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "privkey.pem")]
    name = ["-subj", "/CN=chat.example.org", "-days", "2", "-out", str(folder / "fullchain.pem")]
    subprocess.run(["openssl", "req", "-x509", *key, *name], check=True, capture_output=True, timeout=60)


def _wait_for(port: int, nginx: Program) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and nginx.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nginx did not come up:\n{nginx.text()}")


def test_a_reply_streams_through_the_proxy_over_a_websocket(
    visit: Callable[..., Chat], proxy: tuple[Program, int]
) -> None:
    chat = visit(proxy[0], ignore_https_errors=True)
    sockets: list[str] = []
    frames: list[str] = []

    def watch(websocket: WebSocket) -> None:
        sockets.append(websocket.url)
        websocket.on("framereceived", lambda frame: frames.append(str(frame)))

    chat.page.on("websocket", watch)
    chat.reload()

    chat.say("!words 60")
    content = chat.page.locator(".ai-message .prose").last
    content.filter(has_text="the quick").wait_for()
    early = len(content.inner_text())
    assert chat.page.locator('[data-phase="finished"]').count() == 0
    chat.status("finished")
    assert early < len(content.inner_text())
    assert len(content.inner_text().split()) == 60

    address = proxy[0].url.replace("https://", "wss://")
    assert sockets
    assert all(url.startswith(f"{address}/ws/socket.io/") for url in sockets)
    assert len([frame for frame in frames if frame.startswith('42["stream_token"')]) > 1


def test_the_chat_knows_that_its_visitor_came_by_https(visit: Callable[..., Chat], proxy: tuple[Program, int]) -> None:
    chat = visit(proxy[0], ignore_https_errors=True)
    assert [cookie["secure"] for cookie in chat.page.context.cookies() if cookie["name"] == "visitor"] == [True]
    assert chat.page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"


def test_plain_http_leads_to_https(proxy: tuple[Program, int]) -> None:
    address = f"http://127.0.0.1:{proxy[1]}/thread/1?a=b"
    answer = httpx.get(address, headers={"host": "chat.example.org"}, timeout=10, trust_env=False)
    assert answer.status_code == 301
    assert answer.headers["location"] == "https://chat.example.org/thread/1?a=b"
