"""`python -m app`: start the server."""

from __future__ import annotations

from app.server import serve, set_up_log
from app.settings import settings_or_exit

if __name__ == "__main__":
    settings = settings_or_exit()
    if settings.reload:
        from app.reload import Reloader

        set_up_log(settings)
        raise SystemExit(Reloader().run())
    serve(settings)
