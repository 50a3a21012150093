"""An HTTP server in the running event loop that can go away and come back on its port."""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState


class Listener:
    """Serves an ASGI application on 127.0.0.1.

    uvicorn's protocol without its server, which would take over the signals and poll ten times a second to end.

    Args:
        app: what it serves.
        port: 0 for a free one, chosen at the first start and kept.
    """

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        self.port = port
        # Ollama keeps idle connections open.
        self._config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", log_level="critical", timeout_keep_alive=86_400
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        if not self._config.loaded:
            self._config.load()
        self._server = await asyncio.get_running_loop().create_server(self._protocol, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, break those that there are, and wait until their requests have ended."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for connection in list(self._state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)  # lets each connection learn that it is lost
        while tasks := self._state.tasks - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self._config.http_protocol_class(  # type: ignore[call-arg]
            config=self._config, server_state=self._state, app_state={}
        )
        return protocol
