"""How the API is called: retries, problems as errors, other versions and other servers told apart."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import urlencode

from rgrid.config import Server
from rgrid.http import Response, Transport
from rgrid.network import Lost, backoff_s
from rgrid_shared import API_VERSION, __version__
from rgrid_shared.errors import Overloaded, Problem, Unreachable, VersionMismatch, from_problem

PATIENCE_S: Final = 4.0
BUSY_PATIENCE_S: Final = 120.0
GATEWAY: Final = frozenset({502, 503, 504})
T = TypeVar("T")
Query = Mapping[str, str | int | list[str] | None]


class Caller:
    """A connection to one server; safe to use from many threads.

    A request that the network loses is sent again with backoff for ``patience_s``; one that the server refuses for now
    (429, 503) after the time that it names. ``say`` is told, once each, when the client starts to wait for a server
    that is gone or busy.
    """

    def __init__(
        self, server: Server, *, patience_s: float = PATIENCE_S, say: Callable[[str], None] | None = None
    ) -> None:
        self.server = server
        self.patience_s = patience_s
        self.transport = Transport()
        self._say = say or (lambda _text: None)
        self._said: set[str] = set()
        self._base = server.url.rstrip("/")
        self.headers = {
            "Authorization": f"Bearer {server.api_key}",
            "Rgrid-Api": str(API_VERSION),
            "User-Agent": f"rgrid/{__version__}",
            "Accept": "application/json",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self.transport.close()

    def url(self, path: str, query: Query | None = None) -> str:
        """The full address of a route."""
        pairs = [(name, value) for name, value in (query or {}).items() if value not in (None, "", [])]
        return self._base + path + ("?" + urlencode(pairs, doseq=True) if pairs else "")

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        once: bool = False,
    ) -> Any:
        """Send a request and return the answer's JSON, None if it has none.

        ``once``: never sent twice; a lost answer is the caller's ``Unreachable``. Raises the error that the server's
        problem document names, ``Overloaded`` after two minutes of being told to come back.
        """
        sent = {**self.headers, **(headers or {})}
        data = None
        if body is not None:
            data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
            sent["Content-Type"] = "application/json"
        url = self.url(path, query)

        def attempt(transport: Transport) -> Any:
            return self._decode(transport.request(method, url, headers=sent, body=data, timeout_s=timeout_s))

        if once:
            # On a connection of its own: if a kept one was closed meanwhile, that would look like a lost answer.
            with Transport() as transport:
                return attempt(transport)
        return self._patiently(lambda: attempt(self.transport), self.patience_s, self.server.url)

    def _decode(self, answer: Response) -> Any:
        text = answer.read()
        theirs = answer.headers.get("Rgrid-Api")
        if answer.status < 300 and theirs == str(API_VERSION):
            return json.loads(text) if text else None
        if theirs is not None and theirs != str(API_VERSION):
            raise VersionMismatch(
                f"{self.server.url} speaks version {theirs} of the API, this rgrid {__version__} speaks {API_VERSION}.",
                hint="Install the rgrid that matches the server (its version: "
                f"{answer.headers.get('Rgrid-Version', 'unknown')}).",
            )
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        wait = _seconds(answer.headers.get("Retry-After"))
        if isinstance(document, dict) and "code" in document:
            raise from_problem(cast("Problem", document), retry_after_s=wait)
        if answer.status in GATEWAY:
            raise Lost(f"{self.server.url} answers {answer.status}: what stands before the server cannot reach it.")
        if answer.status == 429:
            raise Overloaded("The grid takes no more requests for now.", retry_after_s=wait or 1.0)
        raise Unreachable(
            f"{self.server.url} does not answer as an rgrid server (HTTP {answer.status}).",
            hint="Check the address: rgrid login --server URL",
        )

    def _patiently(self, attempt: Callable[[], T], patience_s: float, what: str) -> T:
        start = time.monotonic()
        tries = 0
        while True:
            try:
                return attempt()
            except Overloaded as error:
                pause = max(error.retry_after_s or 0.0, backoff_s(tries))
                if time.monotonic() - start + pause > BUSY_PATIENCE_S:
                    raise
                self._once("busy", "the grid is busy; waiting for it")
            except Lost as error:
                pause = backoff_s(tries)
                if time.monotonic() - start + pause > patience_s:
                    raise self._gone(error) from error
                if tries == 4:
                    self._once("lost", f"{what} does not answer; trying again")
            tries += 1
            time.sleep(pause)

    def _gone(self, error: Lost) -> Unreachable:
        hint = "rgrid doctor" if self.server.local else "Check the address and your network, then: rgrid doctor"
        return Unreachable(f"{error.message[0].upper()}{error.message[1:]}.", hint=hint)

    def _once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(text)

    def follow_url(self, path: str, query: Query | None = None) -> str:
        """The address of a WebSocket route."""
        return "ws" + self.url(path, query).removeprefix("http")


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None
