"""The client that a command works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rgrid import output
from rgrid.config import resolve_server

if TYPE_CHECKING:
    from rgrid.client import Client


def connect(profile: str | None = None, server: str | None = None, *, start: bool = False) -> Client:
    """A client for the server that flags, environment and files name; its notes go to stderr.

    ``start``: an embedded grid may be started even if none has run here before.
    """
    # Imported where the work starts: help does without the HTTP library.
    from rgrid.client import Client

    return Client(resolve_server(profile, server, say=output.say, start=start), say=output.say)
