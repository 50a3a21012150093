"""The page behind nginx, with deploy/nginx.conf as it stands but for ports and certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import WebSocket

from tests.browser import Chat
from tests.nginx import nginx
from tests.site import Program, fake_ollama, server


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, int]]:
    """nginx in front of our server, its address the one for https; and its port for plain http."""
    folder = tmp_path_factory.mktemp("proxy")
    with (
        fake_ollama(folder, "--load-seconds", "0", "--speed", "10") as ollama,
        server(folder, OLLAMA_HOST=ollama.url) as site,
        nginx(folder, "nginx.conf", {"http://127.0.0.1:8000;": f"{site.url};"}) as running,
    ):
        yield running


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
