"""`python -m app`: start the server."""

from __future__ import annotations

from app.server import serve
from app.settings import settings_or_exit

if __name__ == "__main__":
    serve(settings_or_exit())
