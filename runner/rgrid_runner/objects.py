"""Object storage by presigned URLs: ranges down, objects up, over kept connections, in threads.

Blocking sockets in threads move a gigabyte in a third of the time that an event loop takes, and leave the loop free
(the hash and the socket both release the interpreter lock). Nothing here is asynchronous; callers run it in threads.
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from rgrid_shared.errors import RgridError, Unreachable

PIECE: Final = 256 * 1024
_TIMEOUT_S: Final = 60.0
_KEPT: Final = 16
_NETWORK: Final = (OSError, http.client.HTTPException)


class UrlRefused(RgridError):
    """The store refuses the URL: it has expired, or was signed for something else. A fresh one may help."""

    code = "url_refused"


class ObjectGone(RgridError):
    """There is no such object, or it is shorter than it should be."""

    code = "object_gone"


class ObjectStore:
    """Transfers to and from any S3. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self._busy: set[http.client.HTTPConnection] = set()

    def get(self, url: str, offset: int, size: int, sink: Callable[[memoryview], object]) -> None:
        """Give the ``size`` bytes at ``offset`` of the object to ``sink``, piece by piece.

        Raises UrlRefused, ObjectGone, Unreachable; ``sink`` may have got a part of the bytes by then. What ``sink``
        raises is passed on.
        """
        headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
        connection, response = self._ask("GET", url, headers)
        try:
            if response.status not in (200, 206):
                raise _refusal(response, response.read(2048))
            # Some stores (rclone) answer 200 to a range all the same, and say so by Content-Range alone.
            ranged = response.status == 206 or response.headers.get("Content-Range") is not None
            skip = 0 if ranged else offset
            left = size
            buffer = memoryview(bytearray(min(PIECE, max(1, skip + size))))
            while left:
                got = _read(response, buffer)
                if not got:
                    raise ObjectGone(f"the object ends {left} bytes early")
                piece = buffer[:got]
                if skip:
                    piece, skip = piece[skip:], max(0, skip - got)
                piece = piece[:left]
                left -= len(piece)
                if piece:
                    sink(piece)
        finally:
            keep = response.isclosed() and not response.will_close
            response.close()
            self._release(url, connection, keep=keep)

    def put(self, url: str, size: int, pieces: Callable[[], Iterable[bytes | memoryview]]) -> str:
        """Store ``size`` bytes, and return the store's etag. ``pieces`` is called again if the send is repeated.

        Raises UrlRefused, Unreachable. What ``pieces`` raises is passed on.
        """
        headers = {"Content-Length": str(size)}
        connection, response = self._ask("PUT", url, headers, pieces)
        keep = False
        try:
            text = response.read()
            if response.status not in (200, 201, 204):
                raise _refusal(response, text[:2048])
            keep = not response.will_close
            return response.headers.get("ETag", "")
        except _NETWORK as error:
            raise Unreachable(f"the object store broke off: {error}") from error
        finally:
            response.close()
            self._release(url, connection, keep=keep)

    def close(self) -> None:
        """Close all connections; transfers that go on fail at once."""
        with self._lock:
            for connection in chain(*self._idle.values()):
                connection.close()
            self._idle.clear()
            for connection in self._busy:
                if connection.sock is not None:
                    with suppress(OSError):
                        connection.sock.shutdown(socket.SHUT_RDWR)

    def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        pieces: Callable[[], Iterable[bytes | memoryview]] | None = None,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        broken: Exception | None = None
        used = True
        while used:
            connection, used, whole = self._connection(parts.scheme, parts.netloc)
            with self._lock:
                self._busy.add(connection)
            try:
                return connection, _exchange(connection, method, url if whole else target, headers, pieces)
            except _Broken as error:
                self._release(url, connection, keep=False)
                broken = error
                # The store closes kept connections when it likes: once more on a fresh one.
                self._forget(parts.scheme, parts.netloc)
            except BaseException:
                self._release(url, connection, keep=False)
                raise
        raise Unreachable(f"the object store at {parts.netloc} does not answer: {broken}") from broken

    def _forget(self, scheme: str, host: str) -> None:
        with self._lock:
            for connection in self._idle.pop((scheme, host), []):
                connection.close()

    def _connection(self, scheme: str, host: str) -> tuple[http.client.HTTPConnection, bool, bool]:
        """A connection, whether it was used before, and whether a proxy wants the whole URL."""
        proxy = None if proxy_bypass(host) else getproxies().get(scheme)
        with self._lock:
            idle = self._idle.get((scheme, host))
            if idle:
                return idle.pop(), True, proxy is not None and scheme == "http"
        via = urlsplit(proxy).netloc if proxy else host
        if scheme == "http":
            return http.client.HTTPConnection(via, timeout=_TIMEOUT_S), False, proxy is not None
        connection = http.client.HTTPSConnection(via, timeout=_TIMEOUT_S)
        if proxy:
            connection.set_tunnel(host)
        return connection, False, False

    def _release(self, url: str, connection: http.client.HTTPConnection, *, keep: bool) -> None:
        parts = urlsplit(url)
        with self._lock:
            self._busy.discard(connection)
            idle = self._idle.setdefault((parts.scheme, parts.netloc), [])
            if keep and len(idle) < _KEPT:
                idle.append(connection)
                return
        connection.close()


class _Broken(Exception):
    """The connection broke; errors of whatever makes the body are none of these."""


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: dict[str, str],
    pieces: Callable[[], Iterable[bytes | memoryview]] | None,
) -> http.client.HTTPResponse:
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
    except _NETWORK as error:
        raise _Broken(str(error)) from error
    for piece in pieces() if pieces is not None else ():
        try:
            connection.send(piece)
        except _NETWORK as error:
            raise _Broken(str(error)) from error
    try:
        return connection.getresponse()
    except _NETWORK as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _read(response: http.client.HTTPResponse, buffer: memoryview) -> int:
    try:
        return response.readinto(buffer)
    except _NETWORK as error:
        raise Unreachable(f"the object store broke off: {error}") from error


def _refusal(response: http.client.HTTPResponse, body: bytes) -> RgridError:
    text = body.decode(errors="replace")
    if response.status in (400, 401, 403):
        return UrlRefused(f"the object store refused the URL ({response.status}): {text[:300]}")
    if response.status in (404, 416):
        return ObjectGone(f"the object store has no such object ({response.status})")
    return Unreachable(f"the object store answered {response.status}: {text[:300]}")
