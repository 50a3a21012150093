"""Starting and ending: the port, the data folder, the log, signals."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from app.listening import listen
from app.log import set_up_log
from app.page.lean import leave_out_unused
from app.settings import ROOT, Settings

if TYPE_CHECKING:
    from app.storage.database import Database

log = logging.getLogger(__name__)

# Replies in progress are stopped and stored within this time after Ctrl-C, in seconds.
_SHUTDOWN_SECONDS: Final = 3


def serve(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM. What is wrong with the machine ends the process with one line (exit code 1)."""
    set_up_log(settings.log_level, settings.log_format)
    listener = _listen(settings)
    if settings.uses_database:
        _prepare_data_dir(settings)
    _chainlit_environment()

    import uvicorn

    from app.engines.checkpoint_files import CheckpointError
    from app.main import create_app
    from app.page.login import providers
    from app.runner import Runner
    from app.secret_key import load_secret, new_secret
    from app.windows import WindowsUnusable

    if settings.oauth and not providers():
        _end(
            f"AUTH={settings.auth} needs the variables of a provider, "
            "such as OAUTH_GITHUB_CLIENT_ID and OAUTH_GITHUB_CLIENT_SECRET. The README has more, see Login"
        )
    if settings.secret_key is not None:
        secret = settings.secret_key.get_secret_value()
    elif settings.uses_database:
        try:
            secret = load_secret(settings.data_dir)
        except OSError as problem:
            _end(str(problem))
    else:
        secret = new_secret()
    os.environ["CHAINLIT_AUTH_SECRET"] = secret

    try:
        app = create_app(settings)
    except (WindowsUnusable, CheckpointError) as problem:
        _end(str(problem))
    if app.state.database is not None:
        _open(app.state.database)
    server = Runner(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            # The one that Chainlit brings; uvicorn would take another where one is installed.
            ws="wsproto",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            # From anybody else X-Forwarded-For and X-Forwarded-Proto are ignored.
            forwarded_allow_ips=settings.trusted_proxies,
            ws_max_size=2 * settings.max_message_bytes,
            # socket.io asks each page for a sign of life by itself; with a thousand open pages twice is felt.
            ws_ping_interval=None,
        ),
        lambda: app.state.wind_up(settings.stop_seconds),
    )
    log.info(
        "HEALTH open http://%s:%d", "localhost" if settings.host in ("0.0.0.0", "::") else settings.host, settings.port
    )
    app.state.end_if_broken(server.give_up)
    with suppress(KeyboardInterrupt):  # uvicorn has ended everything and raises the signal again
        server.run(sockets=[listener])
    if server.problem:
        _end(server.problem)


def _listen(settings: Settings) -> socket.socket:
    """The socket, taken before anything slow is started."""
    try:
        return listen(settings.host, settings.port)
    except OSError as problem:
        _end(
            f"cannot listen on {settings.host} port {settings.port} ({problem.strerror}). "
            f"Stop what uses it, or choose another: PORT={settings.port + 1} make run"
        )


def _prepare_data_dir(settings: Settings) -> None:
    probe = settings.data_dir / ".writable"
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as problem:
        _end(
            f"cannot write in the data folder {settings.data_dir.absolute()} ({problem.strerror}). "
            "Give this user the right to, or name another folder: DATA_DIR=/path/to/folder"
        )


def _open(database: Database) -> None:
    """Before there is a loop that serves: what is wrong for good ends the start. What is away is opened when it is
    back, by its first use."""
    from app.storage.problems import DatabaseAway, DatabaseRefused

    try:
        asyncio.run(database.open())
    except DatabaseAway as problem:
        log.error("STORE the database is away, conversations are not kept until it is back: %s", problem)
    except DatabaseRefused as problem:
        _end(f"the database cannot be used ({problem})")
    except OSError as problem:
        _end(f"the database cannot be opened ({problem.strerror}: {problem.filename})")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _chainlit_environment() -> None:
    """What has to be set before Chainlit is imported."""
    os.environ["CHAINLIT_APP_ROOT"] = str(ROOT)
    os.environ["CHAINLIT_ROOT_PATH"] = ""
    leave_out_unused()


def _end(problem: str) -> NoReturn:
    print(f"chainlit-ollama: {problem}", file=sys.stderr)
    raise SystemExit(1)
