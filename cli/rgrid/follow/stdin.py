"""stdin of the command to stdin of the script, in numbered chunks, while the script runs."""

from __future__ import annotations

import os
import select
import threading
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from rgrid.network import backoff_s
from rgrid_shared.errors import Conflict, NotFound, Overloaded, RgridError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from rgrid.client import Client

READ: Final = 1 << 16
CHUNK: Final = 1 << 19


def feed(client: Client, execution_id: str, descriptor: int, say: Callable[[str], None]) -> None:
    """Send what comes from ``descriptor`` until it ends or the execution does.

    Each chunk goes out as soon as it is read; more is read into it only while more is there already.
    """
    seq = 1
    while True:
        try:
            data = _read(descriptor)
        except OSError as error:
            say(f"stdin cannot be read any further: {error.strerror}")
            data = b""
        if not _send(client, execution_id, seq, data, say) or not data:
            return
        seq += 1


def _read(descriptor: int) -> bytes:
    data = os.read(descriptor, READ)
    parts = [data]
    size = len(data)
    while data and size < CHUNK and select.select([descriptor], [], [], 0)[0]:
        data = os.read(descriptor, READ)
        if not data:
            # The end is read again, and then sent, in the next chunk.
            break
        parts.append(data)
        size += len(data)
    return b"".join(parts)


def _send(client: Client, execution_id: str, seq: int, data: bytes, say: Callable[[str], None]) -> bool:
    tries = 0
    while True:
        try:
            client.stdin(execution_id, {"seq": seq, "data": b64encode(data).decode(), "eof": not data})
        except (Conflict, NotFound):
            # The script has ended and wants no more.
            return False
        except (Unreachable, Overloaded):
            tries += 1
            time.sleep(backoff_s(tries))
        except RgridError as error:
            say(f"stdin cannot be sent any further: {error.message}")
            return False
        else:
            return True


def feed_in_background(client: Client, execution_id: str, descriptor: int, say: Callable[[str], None]) -> None:
    """Start ``feed`` on a thread that never holds up the end of the command."""
    thread = threading.Thread(
        target=feed, args=(client, execution_id, descriptor, say), name="rgrid-stdin", daemon=True
    )
    thread.start()
