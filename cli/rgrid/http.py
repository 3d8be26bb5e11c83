"""HTTP/1.1 on kept connections: one pool for each origin, for use from many threads.

Built on ``http.client`` and not on a larger library because a command's start is what users feel: importing and
starting httpx costs 70 ms more than this on a machine where a whole ``rgrid status`` takes 120 ms.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from rgrid_shared.errors import Unreachable, UsageError

if TYPE_CHECKING:
    import socket
    import ssl

Body = bytes | Callable[[], Iterable[bytes]]
"""What is sent: bytes, or a function that starts the chunks anew (a repeated request sends them again)."""

CONNECT_TIMEOUT_S: Final = 10.0
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
Origin = tuple[str, str, int]


class Lost(Unreachable):
    """The connection failed before the whole answer was here."""


class Response:
    """An answer whose head has arrived. Read it to the end or close it; then its connection serves the next."""

    def __init__(
        self, raw: HTTPResponse, connection: HTTPConnection, release: Callable[[bool], None], where: str
    ) -> None:
        self._raw = raw
        self._connection = connection
        self._release: Callable[[bool], None] | None = release
        self._where = where
        self.status: int = raw.status
        self.headers = raw.headers

    def read(self) -> bytes:
        """The whole body. Raises ``Lost`` if it is cut short."""
        try:
            data = self._raw.read()
        except (OSError, HTTPException) as error:
            self.close()
            raise Lost(f"{self._where} broke off its answer: {error}") from error
        self._done()
        return data

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` with the next bytes; their number, 0 at the end. Raises ``Lost`` if it is cut short."""
        try:
            count = self._raw.readinto(buffer)
        except (OSError, HTTPException) as error:
            self.close()
            raise Lost(f"{self._where} broke off its answer: {error}") from error
        if not count:
            # http.client reports a body that ends early as its end.
            if self._raw.length:
                self.close()
                raise Lost(f"{self._where} broke off its answer, {self._raw.length} bytes early")
            self._done()
        return count

    def _done(self) -> None:
        release, self._release = self._release, None
        if release:
            release(not self._raw.will_close)

    def close(self) -> None:
        """Give the connection up if the body was not read to its end."""
        release, self._release = self._release, None
        if release:
            release(False)


class Transport:
    """Sends requests. ``timeout_s`` is how long a socket may be silent."""

    def __init__(self, *, timeout_s: float = 60.0) -> None:
        self.timeout_s = timeout_s
        self._idle: dict[Origin, list[HTTPConnection]] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        # Looking up proxies imports urllib.request; nobody without a proxy should pay for it.
        self._proxied = any(name.lower().endswith("_proxy") for name in os.environ)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body | None = None,
        size: int | None = None,
        timeout_s: float | None = None,
        fresh: bool = False,
    ) -> Response:
        """Send one request and wait for the head of the answer.

        ``size``: length of a ``body`` that comes in chunks. ``fresh``: on a new connection, for requests that must not
        be sent twice. A kept connection that the server has closed meanwhile is replaced and the request sent again.
        Raises ``Lost`` when the network fails, ``UsageError`` for an address that cannot be one.
        """
        parts = split(url)
        origin = (parts.scheme, parts.hostname or "", port_of(parts))
        while True:
            kept = None if fresh else self._take(origin)
            connection = kept or self.connect(url, timeout_s=timeout_s)
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s or self.timeout_s)
            try:
                return self._exchange(connection, origin, method, parts, headers, body, size)
            except (OSError, HTTPException) as error:
                connection.close()
                if kept is None or isinstance(error, TimeoutError):
                    raise Lost(f"{parts.netloc} does not answer: {_reason(error)}") from error
            except BaseException:
                # The body's own trouble, or the user's Ctrl-C: half a request stands on this connection.
                connection.close()
                raise

    def _exchange(
        self,
        connection: HTTPConnection,
        origin: Origin,
        method: str,
        parts: SplitResult,
        headers: Mapping[str, str],
        body: Body | None,
        size: int | None,
    ) -> Response:
        target = parts.path or "/"
        if parts.query:
            target += "?" + parts.query
        if getattr(connection, "through_proxy", False):
            target = f"{parts.scheme}://{parts.netloc}{target}"
        sent = dict(headers)
        if callable(body):
            sent["Content-Length"] = str(size or 0)
            connection.request(method, target, body=body(), headers=sent)
        else:
            connection.request(method, target, body=body, headers=sent)
        raw = connection.getresponse()

        def release(reusable: bool) -> None:
            if reusable:
                with self._lock:
                    self._idle.setdefault(origin, []).append(connection)
            else:
                connection.close()

        return Response(raw, connection, release, parts.netloc)

    def _take(self, origin: Origin) -> HTTPConnection | None:
        with self._lock:
            kept = self._idle.get(origin)
            return kept.pop() if kept else None

    def connect(self, url: str, *, timeout_s: float | None = None) -> HTTPConnection:
        """A new open connection to the origin of ``url``, through the proxy that the environment names."""
        parts = split(url)
        host, port = parts.hostname or "", port_of(parts)
        proxy = self._proxy(parts) if self._proxied and host not in LOOPBACK else None
        connection = self._build(parts.scheme, host, port, proxy)
        try:
            connection.connect()
        except (OSError, HTTPException) as error:
            connection.close()
            raise Lost(f"{parts.netloc} cannot be reached: {_reason(error)}") from error
        sock: socket.socket = connection.sock
        sock.settimeout(timeout_s or self.timeout_s)
        return connection

    def _build(self, scheme: str, host: str, port: int, proxy: SplitResult | None) -> HTTPConnection:
        at_host, at_port = (proxy.hostname or "", port_of(proxy)) if proxy else (host, port)
        if scheme == "https":
            from http.client import HTTPSConnection

            secure = HTTPSConnection(at_host, at_port, timeout=CONNECT_TIMEOUT_S, context=self.tls())
            if proxy:
                secure.set_tunnel(host, port, _proxy_auth(proxy))
            return secure
        plain = HTTPConnection(at_host, at_port, timeout=CONNECT_TIMEOUT_S)
        if proxy:
            plain.through_proxy = True  # type: ignore[attr-defined]
        return plain

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        from urllib.request import getproxies, proxy_bypass

        found = getproxies().get(parts.scheme)
        if not found or proxy_bypass(parts.netloc):
            return None
        return urlsplit(found if "://" in found else f"http://{found}")

    def tls(self) -> ssl.SSLContext:
        """The system's certificate checks; made when first used, for it takes tens of milliseconds."""
        with self._lock:
            if self._tls is None:
                import ssl

                self._tls = ssl.create_default_context()
            return self._tls

    def __del__(self) -> None:
        # The SDK's runs carry a client that nobody closes.
        self.close()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()


def split(url: str) -> SplitResult:
    """The parts of an http(s) address. Raises ``UsageError`` for anything else."""
    try:
        parts = urlsplit(url)
        port_of(parts)
    except ValueError as error:
        raise UsageError(f"{url!r} is not an address: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not an http:// or https:// address.", hint="Write it as https://host[:port].")
    return parts


def port_of(parts: SplitResult) -> int:
    """The port of an address, by its scheme if it names none."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def _proxy_auth(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    from base64 import b64encode
    from urllib.parse import unquote

    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(pair.encode()).decode()}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
