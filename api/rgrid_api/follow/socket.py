"""What all WebSockets have in common: hello, heartbeats, bounded sends, and a clean close."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from rgrid_api.events.hub import Subscription
from rgrid_shared import API_VERSION

HEARTBEAT_S: Final = 15.0
LOOK_S: Final = 4.0
"""Notifications are hints: everybody looks by itself at least this often, and heartbeats stay below ``HEARTBEAT_S``."""
SEND_S: Final = 30.0
SERVICE_RESTART: Final = 1012
TRY_AGAIN_LATER: Final = 1013
NORMAL: Final = 1000


class SlowFollower(Exception):
    """The client did not take a message within ``SEND_S`` seconds."""


class ServerStops(Exception):
    """This process ends; the client finds another one."""


class Socket:
    """The sending side of an accepted WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._last_sent = 0.0

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one message. Raises ``SlowFollower``, or ``WebSocketDisconnect`` if the client has gone."""
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        try:
            async with asyncio.timeout(SEND_S):
                await self._websocket.send_text(text)
        except TimeoutError:
            raise SlowFollower from None
        self._last_sent = asyncio.get_running_loop().time()

    async def pause(self, subscription: Subscription) -> bool:
        """Wait for a wake-up, at most until the next look is due; True if there was one. Heartbeats meanwhile.

        Raises ``ServerStops``.
        """
        if asyncio.get_running_loop().time() - self._last_sent >= HEARTBEAT_S - LOOK_S - 1:
            await self.send({"type": "heartbeat"})
        woken = await subscription.wait(LOOK_S)
        if subscription.stopping:
            raise ServerStops
        return woken

    async def end(self) -> None:
        """Nothing will follow."""
        await self.send({"type": "end"})


@asynccontextmanager
async def opened(websocket: WebSocket) -> AsyncIterator[Socket]:
    """Accept, say hello, and close at the end of the block.

    The block is cancelled as soon as the client goes away or the server closes the socket (1012, when it stops). A
    client that does not read is closed with 1013. Errors leave the block as they are, for the application's handlers.
    """
    await websocket.accept()
    socket = Socket(websocket)
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await websocket.receive())["type"] != "websocket.disconnect":
            continue
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch(), name="socket-watch")
    try:
        await socket.send({"type": "hello", "api": API_VERSION})
        yield socket
        await websocket.close(NORMAL)
    except asyncio.CancelledError:
        if not gone or task.uncancel():
            raise
    except WebSocketDisconnect:
        return
    except SlowFollower:
        await _close(websocket, TRY_AGAIN_LATER)
    except ServerStops:
        await _close(websocket, SERVICE_RESTART)
    finally:
        watcher.cancel()


async def _close(websocket: WebSocket, code: int) -> None:
    """Close. The close frame may wait behind what the client does not read, so it is not waited for long."""
    try:
        async with asyncio.timeout(1):
            await websocket.close(code)
    except (TimeoutError, WebSocketDisconnect):
        return
