"""Our server, started many times over: the program is loaded once, and each server is a fork of it.

    python -m tests.zygote      for each line that comes in, start a server by the environment and print its process id

It is the same as `python -m app` from there on, but for the second that loading takes.
"""

from __future__ import annotations

import os
import signal
import sys

from app.server import _chainlit_environment, serve
from app.settings import settings_or_exit


def main() -> None:
    settings = settings_or_exit()
    _chainlit_environment()
    import uvicorn  # noqa: F401

    import app.main
    import app.storage.migrate  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            serve(settings)
            os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
