"""A WebSocket to the API by ``websockets``: one message at a time, as dictionaries."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, cast

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from rgrid.network import LOOPBACK, Lost, split
from rgrid_shared import API_VERSION
from rgrid_shared.errors import Forbidden, NotAuthorised, Problem, RgridError, VersionMismatch, from_problem

if TYPE_CHECKING:
    from websockets.http11 import Response

    from rgrid.caller import Query
    from rgrid.client import Client
    from rgrid_shared.views import FollowMessage

SILENCE_S: Final = 45.0
"""The server speaks at least every 15 s; three missed heartbeats mean that the connection is dead."""
HANDSHAKE_S: Final = 10.0
LARGEST: Final = 64 << 20

# The follower says itself what became of a connection; without a handler, logging would print on the script's stderr.
logging.getLogger("websockets").addHandler(logging.NullHandler())


class Refused(Exception):
    """Something between here and the server does not let WebSockets through."""


class Socket:
    """An open subscription. Iterate over its messages; heartbeats and hello are dealt with here."""

    def __init__(self, client: Client, path: str, query: Query | None = None) -> None:
        """Connect.

        Raises ``Lost`` for a network failure, ``Refused`` if WebSockets do not get through, else the error that the
        server names.
        """
        parts = split(client.url(path, query))
        self._open = ExitStack()
        try:
            self._connection = self._open.enter_context(
                connect(
                    client.follow_url(path, query),
                    ssl=client.transport.tls() if parts.scheme == "https" else None,
                    proxy=None if parts.hostname in LOOPBACK else True,
                    additional_headers=client.headers,
                    user_agent_header=None,
                    compression=None,
                    open_timeout=HANDSHAKE_S,
                    # The server's heartbeats tell that it is there, and it needs no farewell.
                    ping_interval=None,
                    close_timeout=0,
                    max_size=LARGEST,
                )
            )
        except InvalidStatus as error:
            raise _refusal(error.response) from error
        except (OSError, ConnectionClosed) as error:
            raise Lost(f"The server cannot be reached: {error}") from error
        except (WebSocketException, ImportError) as error:
            # ImportError: the environment names a SOCKS proxy, for which websockets needs a package of its own.
            raise Refused from error

    def messages(self) -> Iterator[FollowMessage]:
        """Messages as they come, up to and including ``end``.

        Raises ``Lost`` if the connection breaks or falls silent, or the error of a problem message.
        """
        while True:
            try:
                message: FollowMessage = json.loads(self._connection.recv(timeout=SILENCE_S))
            except TimeoutError as error:
                raise Lost("The server has been silent for too long") from error
            except ConnectionClosed as error:
                raise Lost("The server closed the connection") from error
            if message["type"] == "problem":
                raise from_problem(cast("Problem", message))
            if message["type"] not in ("hello", "heartbeat"):
                yield message
            if message["type"] == "end":
                return

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection."""
        self._open.close()


def _refusal(response: Response) -> Exception:
    """What a refused handshake means: the server's own error where it is one, else ``Refused``."""
    body = bytes(response.body or b"")
    theirs = response.headers.get("Rgrid-Api")
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
