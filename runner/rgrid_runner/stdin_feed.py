"""A script's stdin, from the numbered chunks that the API keeps to the script's pipe."""

from __future__ import annotations

import base64
import logging
from typing import Final

from rgrid_runner.record import Record
from rgrid_runner.room import Room
from rgrid_shared.errors import RgridError

log: Final = logging.getLogger("rgrid.runner")
_WAIT_S: Final = 20.0


async def feed_stdin(room: Room, record: Record) -> None:
    """Feed until the end of stdin; what an earlier agent had fed is not fed again. Runs beside the script."""
    after, taken = 0, await room.backend.fed(record.key)
    while True:
        try:
            reply = await room.control.stdin(
                {"execution_id": record.execution_id, "attempt": record.attempt, "after": after, "wait_s": _WAIT_S}
            )
        except RgridError as error:
            log.warning("%s: stdin ends early: %s", record.key, error.message)
            return
        for part in reply["chunks"]:
            data = base64.b64decode(part["data"])
            fresh, taken = data[taken:], max(0, taken - len(data))
            await room.backend.feed(record.key, fresh, eof=part["eof"])
            after = part["seq"]
            if part["eof"]:
                return
