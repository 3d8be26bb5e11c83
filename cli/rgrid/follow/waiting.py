"""Waiting for ends, without logs and outputs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rgrid.follow.feed import batch_feed, execution_feed
from rgrid_shared.errors import RgridError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rgrid.client import Client
    from rgrid.selectors import Found


def until_done(client: Client, found: Sequence[Found], limit_s: float | None, say: Callable[[str], None]) -> bool:
    """Wait until all of ``found`` have ended; False if ``limit_s`` seconds were not enough.

    Raises the server's error if one cannot be followed.
    """
    problems: list[RgridError] = []

    def watch() -> None:
        try:
            for one in found:
                _one(client, one, say)
        except RgridError as error:
            problems.append(error)

    if limit_s is None:
        watch()
    else:
        # A thread of its own, for a socket that waits cannot be told to stop at a moment.
        thread = threading.Thread(target=watch, name="rgrid-wait", daemon=True)
        thread.start()
        thread.join(limit_s)
        if thread.is_alive():
            return False
    if problems:
        raise problems[0]
    return True


def _one(client: Client, found: Found, say: Callable[[str], None]) -> None:
    if found.batch["done"]:
        return
    if found.indexes is None:
        for _message in batch_feed(client, found.batch, outputs=False, say=say):
            pass
        return
    for view in list(found.executions(client)):
        if view["ended_at"] is None:
            for _message in execution_feed(client, view["id"], outputs=False, say=say):
                pass
