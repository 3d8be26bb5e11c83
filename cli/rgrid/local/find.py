"""Finds the embedded grid that runs. Every command passes here: it imports little and asks nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rgrid.config import Server
from rgrid.local.layout import Layout, LocalError, locate
from rgrid.local.record import GridRecord, read_record, read_secrets
from rgrid_shared import __version__


def ensure(home: Path, say: Callable[[str], None]) -> Server:
    """The embedded grid below ``home``; started if it does not run, which ``say`` then tells in one line.

    A grid that runs costs no request: its record names a process, and that process is there.

    Raises:
        LocalError: it cannot be started, and why.
    """
    layout = locate(home)
    record = running(layout)
    if record is None or record.version != __version__:
        from rgrid.local import start

        if record is not None:
            record = start.settle_version(layout, record, say)
        if record is None:
            record = start.bring_up(layout, auto=True, say=say)
    return server_of(layout, record)


def running(layout: Layout) -> GridRecord | None:
    """The grid that is up in this directory, or None."""
    record = read_record(layout.record)
    return record if record is not None and record.alive else None


def server_of(layout: Layout, record: GridRecord) -> Server:
    """Address and key of a grid that is up."""
    try:
        return Server(record.url, read_secrets(layout.secrets).api_key, local=True)
    except (OSError, ValueError) as error:
        raise LocalError(f"The keys of the embedded grid cannot be read: {error}", hint="rgrid doctor") from error
