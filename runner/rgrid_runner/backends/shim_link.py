"""The agent's end of the socket to one shim."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from rgrid_runner.shim import frames

_PATH_BYTES: Final = 100
"""``sockaddr_un`` holds 108 on Linux and 104 elsewhere."""


class LinkLost(Exception):
    """The shim is gone."""


class ShimLink(asyncio.Protocol):
    """Numbered requests to a shim and what it says by itself.

    ``on_grew()``, ``on_ended(fields)`` and ``on_lost()`` are set by the owner; ``on_lost`` is not called for a link
    that was closed by ``close``.
    """

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path
        self.pid = 0
        self.key = ""
        self.taken = 0
        self.on_grew: Callable[[], None] = nothing
        self.on_ended: Callable[[list[bytes]], None] = nothing_with
        self.on_lost: Callable[[], None] = nothing
        self.lost = False
        self._splitter = frames.Splitter()
        self._asked: dict[int, asyncio.Future[list[bytes]]] = {}
        self._last = 0
        self._transport: asyncio.Transport | None = None
        self._hello: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def greeted(self) -> None:
        """Until the shim has said who it is. Raises LinkLost."""
        await asyncio.shield(self._hello)

    async def ask(self, kind: int, *fields: bytes) -> list[bytes]:
        """Send a request; the fields of its answer. Raises LinkLost."""
        if self.lost or self._transport is None:
            raise LinkLost
        self._last += 1
        answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._asked[self._last] = answer
        self._transport.write(frames.pack(kind, self._last, *fields))
        return await answer

    def close(self) -> None:
        """Hang up."""
        self.on_lost = self.on_grew = nothing
        self.on_ended = nothing_with
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        grew = False
        for kind, number, fields in self._splitter.feed(data):
            if kind == frames.GREW:
                grew = True
            elif kind == frames.ACK:
                answer = self._asked.pop(number)
                if not answer.done():  # else the one who asked was cancelled
                    answer.set_result(fields)
            elif kind == frames.ENDED:
                self.on_ended(fields)
                grew = False
            elif kind == frames.HELLO:
                self.pid, self.key, self.taken = int(fields[1]), os.fsdecode(fields[2]), int(fields[3])
                self._hello.set_result(None)
        if grew:
            self.on_grew()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self.lost = True
        waiting: list[asyncio.Future[Any]] = [*self._asked.values(), self._hello]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(LinkLost())
                answer.exception()  # nobody needs to have waited for it
        self._asked.clear()
        self.on_lost()


def nothing() -> None:
    """Nobody listens."""


def nothing_with(_: list[bytes]) -> None:
    """Nobody listens."""


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path``, however long that is."""
    listener = socket.socket(socket.AF_UNIX)
    with _short(path) as name:
        listener.bind(name)
    listener.listen(4)
    return listener


def connect(path: Path) -> socket.socket:
    """A connection to the shim that listens at ``path``. Raises OSError if none does."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _short(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket address."""
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
