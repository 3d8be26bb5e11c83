"""What holds for every request: the contract's version, the size of a body, and an answer even to our own faults."""

from __future__ import annotations

import logging
import secrets
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from rgrid_api.activity import UseClock, counts_as_use
from rgrid_api.problems import problem_response, send_problem
from rgrid_shared import API_VERSION, __version__
from rgrid_shared.errors import Internal, RgridError, TooLarge, VersionMismatch

log = logging.getLogger(__name__)

MAX_BODY: Final = 64 << 20
"""Bytes of a request body. Pages of 5,000 items stay below; file bytes never pass through the API."""


class ContractMiddleware:
    """Adds ``Rgrid-Api`` and ``Rgrid-Version`` to every answer and refuses other contracts and huge bodies.

    An exception that nobody meant becomes a problem ``internal`` with an id; the log has the same id.
    """

    def __init__(self, app: ASGIApp, *, use_clock: UseClock) -> None:
        self._app = app
        self._use_clock = use_clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        used = counts_as_use(scope.get("method", "GET"), scope["path"])
        if used:
            self._use_clock.begin()
        try:
            await self._serve(scope, exchange)
        finally:
            if used:
                self._use_clock.end(refused=exchange.status in {401, 403, 426})

    async def _serve(self, scope: Scope, exchange: _Exchange) -> None:
        refusal = refuse(Headers(scope=scope))
        try:
            if refusal is None:
                await self._app(scope, exchange.receive, exchange.send)
                return
        except Exception as exc:
            fault = secrets.token_hex(4)
            log.exception("fault %s on %s: %s", fault, scope["path"], type(exc).__name__)
            if exchange.status:
                raise
            refusal = Internal(f"the server met a fault of its own (id {fault})", hint="its log has more under this id")
        if scope["type"] == "http":
            await problem_response(refusal)(scope, exchange.receive, exchange.send)
        else:
            await send_problem(WebSocket(scope, exchange.receive, exchange.send), refusal)


def refuse(headers: Headers) -> RgridError | None:
    """Why a request cannot be served by its headers alone, or None. A client that names no version is taken as ours."""
    spoken = headers.get("rgrid-api", str(API_VERSION))
    if spoken.split(".")[0] != str(API_VERSION):
        return VersionMismatch(
            f"this server (rgrid {__version__}) speaks contract {API_VERSION}, the client speaks {spoken[:20]}",
            hint=f"install rgrid {__version__}, or upgrade the server",
        )
    length = headers.get("content-length", "0")
    return _too_large() if length.isdecimal() and int(length) > MAX_BODY else None


def _too_large() -> TooLarge:
    return TooLarge(f"the request body is over {MAX_BODY >> 20} MiB", hint="send the items in pages")


class _Exchange:
    """One connection's two directions: counts what comes in, marks what goes out."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._received = 0
        self.status = 0

    async def receive(self) -> Message:
        """The next message of the client. Raises TooLarge when the body grows over the limit."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > MAX_BODY:
                raise _too_large()
        return message

    async def send(self, message: Message) -> None:
        """Send a message, with the contract's headers if it opens the answer."""
        if message["type"] in {"http.response.start", "websocket.accept"}:
            self.status = message.get("status", 101)
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            headers["rgrid-api"] = str(API_VERSION)
            headers["rgrid-version"] = __version__
        await self._send(message)
