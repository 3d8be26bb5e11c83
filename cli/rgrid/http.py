"""HTTP by ``httpx``: which client serves an address, bodies in pieces, and failures in rgrid's words."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Final

# httpx's own command line is optional to it, and would bring click, pygments and rich: 0.17 s.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
import httpx  # noqa: E402

from rgrid.network import LOOPBACK, Lost, split  # noqa: E402
from rgrid_shared.errors import UsageError  # noqa: E402

if TYPE_CHECKING:
    import ssl
    from urllib.parse import SplitResult

Body = bytes | Callable[[], Iterable[bytes]]
"""What is sent: bytes, or a function that starts the chunks anew (a repeated request sends them again)."""

CONNECT_TIMEOUT_S: Final = 10.0


class Response:
    """An answer whose head has arrived. Read it to the end or close it; then its connection serves the next."""

    def __init__(self, raw: httpx.Response, where: str) -> None:
        self.status = raw.status_code
        self.headers = raw.headers
        self._raw = raw
        self._where = where
        self._chunks = raw.iter_raw()
        self._rest = memoryview(b"")

    def read(self) -> bytes:
        """The whole body. Raises ``Lost`` if it is cut short."""
        with _in_words(self._where):
            return self._raw.read()

    def some(self, most: int) -> memoryview:
        """The next bytes, ``most`` of them at most; none at the end. Raises ``Lost`` if the body is cut short."""
        if not self._rest:
            with _in_words(self._where):
                self._rest = memoryview(next(self._chunks, b""))
        part, self._rest = self._rest[:most], self._rest[most:]
        return part

    def close(self) -> None:
        """Give the connection up if the body was not read to its end."""
        self._raw.close()


class Transport:
    """Sends requests on kept connections; safe to use from many threads. Nothing is ever sent twice."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._clients: dict[tuple[bool, bool], httpx.Client] = {}
        self._tls: ssl.SSLContext | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body | None = None,
        size: int = 0,
        timeout_s: float = 60.0,
    ) -> Response:
        """Send one request and wait for the head of the answer.

        ``size``: length of a ``body`` that comes in chunks. ``timeout_s``: how long the socket may be silent. Raises
        ``Lost`` when the network fails, ``UsageError`` for an address that cannot be one.
        """
        parts = split(url)
        client = self._client(parts)
        content: Iterable[bytes] | None = None
        if callable(body):
            content = body()
            headers = {**headers, "Content-Length": str(size)}
        elif body is not None:
            # As a file, for httpx sends those in pieces: what the socket does not take at once is copied.
            content = BytesIO(body)
        with _in_words(parts.netloc):
            timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
            request = client.build_request(method, url, headers=headers, content=content, timeout=timeout)
            return Response(client.send(request, stream=True), parts.netloc)

    def _client(self, parts: SplitResult) -> httpx.Client:
        """Plain http gets a client without certificates (20 ms to load), the loopback one without proxies."""
        secure, near = parts.scheme == "https", parts.hostname in LOOPBACK
        with self._lock:
            if (secure, near) not in self._clients:
                verify = self.tls() if secure else False
                try:
                    self._clients[secure, near] = httpx.Client(verify=verify, trust_env=not near)
                except (ImportError, ValueError, httpx.InvalidURL) as error:
                    raise UsageError(f"The proxy that the environment names cannot be used: {error}") from error
            return self._clients[secure, near]

    def tls(self) -> ssl.SSLContext:
        """The certificate checks of httpx (``SSL_CERT_FILE``, else certifi's authorities); made when first used."""
        with self._lock:
            if self._tls is None:
                try:
                    self._tls = httpx.create_ssl_context()
                except OSError as error:
                    what = "The certificates that SSL_CERT_FILE or SSL_CERT_DIR names"
                    raise UsageError(f"{what} cannot be loaded: {error.strerror}.") from error
            return self._tls

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The SDK's runs carry a client that nobody closes.
        self.close()

    def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()


@contextmanager
def _in_words(where: str) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError) as error:
        hint = "Check the server's address and the key."
        raise UsageError(f"A request to {where} cannot be written: {error}.", hint=hint) from error
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise Lost(f"{where} cannot be reached: {_reason(error)}") from error
    except httpx.RequestError as error:
        raise Lost(f"{where} does not answer: {_reason(error)}") from error


def _reason(error: httpx.RequestError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    text = str(error).rstrip(".") or type(error).__name__
    # "[Errno 111] Connection refused": the number tells users nothing.
    text = text.partition("] ")[2] if text.startswith("[") else text
    return text[:1].lower() + text[1:]
