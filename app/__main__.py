"""`python -m app`: start the server."""

from __future__ import annotations

from app.log import set_up_log
from app.server import serve
from app.settings import settings_or_exit

if __name__ == "__main__":
    settings = settings_or_exit()
    if settings.reload:
        from app.reload import Reloader

        set_up_log(settings.log_level, settings.log_format)
        raise SystemExit(Reloader().run())
    serve(settings)
