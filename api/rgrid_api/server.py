"""Serving the application: uvicorn with uvloop and httptools, and an end that leaves nobody hanging."""

from __future__ import annotations

import logging
import socket
from types import FrameType

import uvicorn

from rgrid_api.app import create_app
from rgrid_api.services import Services
from rgrid_api.settings import Settings

log = logging.getLogger(__name__)

BACKLOG = 2048
WS_MESSAGE_BYTES = 1 << 20
"""What a client may send on a WebSocket; it sends nothing but control frames."""


class Server(uvicorn.Server):
    """Uvicorn, except that being asked to end first lets long polls and followers go."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on SIGTERM and SIGINT. Uvicorn then waits for requests to end and closes WebSockets with 1012."""
        self._services.hub.begin_stop()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, but with exit code 0: it would raise the signal again, and a supervisor see a death."""
        await super().shutdown(sockets)
        self._captured_signals.clear()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, and say where: a port of 0 has become a real one."""
        await super().startup(sockets)
        for server in getattr(self, "servers", []):
            for listening in server.sockets:
                log.info("listening on %s", _address(listening))


def serve(settings: Settings, *, host: str | None = None, port: int | None = None, uds: str | None = None) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host or settings.host,
        port=settings.port if port is None else port,
        uds=uds,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=WS_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
    )
    server = Server(config, app.state.services)
    server.run()
    return 0 if server.started else 1


def _address(listening: socket.socket) -> str:
    name = listening.getsockname()
    return f"http://{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"
