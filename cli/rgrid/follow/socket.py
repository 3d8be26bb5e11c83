"""A WebSocket to the API: one message at a time, as dictionaries.

The protocol is the ``websockets`` package's sans-I/O half over a socket of ``rgrid.http``, so that a chunk of log is
handed on by the thread that received it, and only what is needed is imported.
"""

from __future__ import annotations

import json
import socket as sockets
from collections.abc import Iterator
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, cast

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from rgrid.http import Lost
from rgrid_shared import API_VERSION
from rgrid_shared.errors import Forbidden, NotAuthorised, Problem, RgridError, VersionMismatch, from_problem

if TYPE_CHECKING:
    from rgrid.client import Client, Query
    from rgrid_shared.views import FollowMessage

SILENCE_S: Final = 45.0
"""The server speaks at least every 15 s; three missed heartbeats mean that the connection is dead."""
HANDSHAKE_S: Final = 10.0
RECEIVE: Final = 1 << 18
LARGEST: Final = 64 << 20


class Refused(Exception):
    """Something between here and the server does not let WebSockets through."""


class Socket:
    """An open subscription. Iterate over its messages; heartbeats and hello are dealt with here."""

    def __init__(self, client: Client, path: str, query: Query | None = None) -> None:
        """Connect.

        Raises ``Lost`` for a network failure, ``Refused`` if WebSockets do not get through, else the error that the
        server names.
        """
        self._pending: list[FollowMessage] = []
        self._ended = False
        self._open(client, path, query)

    def _open(self, client: Client, path: str, query: Query | None) -> None:
        self._protocol = ClientProtocol(parse_uri(client.follow_url(path, query)), max_size=LARGEST)
        self._connection = client.transport.connect(client.url(path, query), timeout_s=HANDSHAKE_S)
        self._sock: sockets.socket = self._connection.sock
        if getattr(self._connection, "through_proxy", False):
            self.close()
            raise Refused
        request = self._protocol.connect()
        for name, value in client.headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        try:
            self._flush()
            while True:
                data = self._sock.recv(RECEIVE)
                if data:
                    self._protocol.receive_data(data)
                else:
                    self._protocol.receive_eof()
                events = self._protocol.events_received()
                if self._protocol.handshake_exc is not None:
                    raise self._protocol.handshake_exc
                if events:
                    break
                if not data:
                    raise Lost("The server closed the connection")
        except (OSError, HTTPException) as error:
            self.close()
            raise Lost(f"The server cannot be reached: {error}") from error
        except InvalidStatus as error:
            self.close()
            raise _refusal(error.response) from error
        except (InvalidHandshake, WebSocketException) as error:
            self.close()
            raise Refused from error
        self._sock.settimeout(SILENCE_S)
        # The answer to the handshake is the first event; messages may have come with it.
        self._take(cast("list[Any]", events[1:]))

    def messages(self) -> Iterator[FollowMessage]:
        """Messages as they come, up to and including ``end``.

        Raises ``Lost`` if the connection breaks or falls silent, or the error of a problem message.
        """
        while True:
            for message in self._pending:
                if message["type"] == "problem":
                    raise from_problem(cast("Problem", message))
                if message["type"] not in ("hello", "heartbeat"):
                    yield message
                if message["type"] == "end":
                    self._ended = True
                    return
            self._pending = []
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(RECEIVE)
        except TimeoutError as error:
            raise Lost("The server has been silent for too long") from error
        except OSError as error:
            raise Lost(f"The connection broke: {error}") from error
        if not data:
            raise Lost("The server closed the connection")
        self._protocol.receive_data(data)
        self._take(self._protocol.events_received())
        self._flush()

    def _take(self, events: list[Any]) -> None:
        for event in events:
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.TEXT and event.fin:
                self._pending.append(json.loads(bytes(event.data)))
            elif event.opcode is Opcode.TEXT:
                self._parts = [event.data]
            elif event.opcode is Opcode.CONT:
                self._parts.append(event.data)
                if event.fin:
                    self._pending.append(json.loads(b"".join(self._parts)))
            elif event.opcode is Opcode.CLOSE and not self._pending:
                raise Lost("The server closed the connection")

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._sock.sendall(data)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection. The server needs no farewell."""
        self._connection.close()


def _refusal(response: Response) -> Exception:
    """What a refused handshake means: the server's own error where it is one, else ``Refused``."""
    body = bytes(response.body or b"")
    theirs = Headers(response.headers).get("Rgrid-Api")
    if theirs is not None and theirs != str(API_VERSION):
        return VersionMismatch(f"The server speaks version {theirs} of the API.", hint="Install the matching rgrid.")
    problem: RgridError | None = None
    if theirs is not None:
        try:
            problem = from_problem(cast("Problem", json.loads(body)))
        except (ValueError, AttributeError):
            problem = None
    if isinstance(problem, (NotAuthorised, Forbidden, VersionMismatch)):
        return problem
    if response.status_code in (502, 503, 504):
        return Lost(f"The server answers {response.status_code}")
    return Refused()
