"""A control plane behind a real port, and clients that follow it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect

WAIT_S = 10.0


@contextlib.asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Serve ``app`` (its lifespan is somebody else's) on a free port; its address, ``127.0.0.1:PORT``."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    # The test run's signals are pytest's.
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=None))
    async with asyncio.timeout(WAIT_S):
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


class Follower:
    """A WebSocket and what came over it. Waiting for a message never takes longer than ``WAIT_S``."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        """The next message that is no heartbeat."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message: dict[str, Any] = json.loads(await self.connection.recv())
                if message["type"] != "heartbeat":
                    self.seen.append(message)
                    return message

    async def until(self, kind: str, **has: Any) -> dict[str, Any]:
        """The next message of this type that holds these values."""
        while True:
            message = await self.next()
            if message["type"] == kind and all(message.get(name) == value for name, value in has.items()):
                return message

    async def end(self) -> list[dict[str, Any]]:
        """All messages up to and with the end, and the socket closed normally after it."""
        await self.until("end")
        async with asyncio.timeout(WAIT_S):
            await self.connection.wait_closed()
        assert self.connection.close_code == 1000
        return self.seen


@contextlib.asynccontextmanager
async def following(address: str, path: str, key: str) -> AsyncIterator[Follower]:
    """Open ``path`` with this key."""
    headers = {"Authorization": f"Bearer {key}", "Rgrid-Api": "1"}
    async with connect(f"ws://{address}{path}", additional_headers=headers, max_size=None) as connection:
        yield Follower(connection)


@contextlib.asynccontextmanager
async def unread(address: str, path: str, key: str) -> AsyncIterator[None]:
    """Open ``path`` with this key as a client that reads the server's answer and then nothing more."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 16)
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    try:
        assert b"101 " in await reader.readuntil(b"\r\n\r\n")
        yield
    finally:
        writer.transport.abort()
