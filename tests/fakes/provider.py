"""An OAuth provider (RFC 6749, 4.1) that sends back whoever comes as the user that it is told."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit


class Provider:
    """What it knows.

    Attributes:
        user: what it says of whoever signs in; None: nobody is let in.
        url: where it answers.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.user: dict[str, Any] | None = {"email": "ann@example.org"}
        self.client = {"client_id": "chat", "client_secret": secrets.token_urlsafe()}
        self.codes: dict[str, str] = {}
        self.tokens: set[str] = set()

    @property
    def variables(self) -> dict[str, str]:
        """Those of a server that people sign in to with this provider."""
        return {
            "OAUTH_GENERIC_CLIENT_ID": self.client["client_id"],
            "OAUTH_GENERIC_CLIENT_SECRET": self.client["client_secret"],
            "OAUTH_GENERIC_AUTH_URL": f"{self.url}/authorize",
            "OAUTH_GENERIC_TOKEN_URL": f"{self.url}/token",
            "OAUTH_GENERIC_USER_INFO_URL": f"{self.url}/userinfo",
            "OAUTH_GENERIC_SCOPES": "openid email",
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent back to."""
        if self.user is None:
            return f"{asked['redirect_uri']}?{urlencode({'error': 'access_denied', 'state': asked['state']})}"
        code = secrets.token_urlsafe()
        self.codes[code] = asked["redirect_uri"]
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, asked: dict[str, str]) -> dict[str, str] | None:
        """A token for a code that was given for the same address, once."""
        known = self.codes.pop(asked.get("code", ""), None)
        if known is None or known != asked.get("redirect_uri") or not self.client.items() <= asked.items():
            return None
        token = secrets.token_urlsafe()
        self.tokens.add(token)
        return {"access_token": token, "token_type": "bearer"}


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider that answers on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", known.authorize(_flat(parts.query)))
                self.end_headers()
            else:
                allowed = self.headers.get("Authorization", "").removeprefix("Bearer ") in known.tokens
                self._answer(known.user if allowed else None)

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer(known.token(_flat(sent)))

        def _answer(self, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(200 if body is not None else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known = Provider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}
