"""The client that a command works with."""

from __future__ import annotations

from rgrid import output
from rgrid.client import Client
from rgrid.config import resolve_server


def connect(profile: str | None = None, server: str | None = None, *, start: bool = False) -> Client:
    """A client for the server that flags, environment and files name; its notes go to stderr.

    ``start``: an embedded grid may be started even if none has run here before.
    """
    return Client(resolve_server(profile, server, say=output.say, start=start), say=output.say)
