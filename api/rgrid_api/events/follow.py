"""The events feed on a WebSocket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from rgrid_api.events.feed import EventCursor, Filter, read_events, snapshot
from rgrid_api.follow.socket import Socket

if TYPE_CHECKING:
    from rgrid_api.services import Services

FIRST_SETTLE_S: Final = 0.01
MAX_SETTLE_S: Final = 0.5


async def follow_events(services: Services, socket: Socket, which: Filter, after: EventCursor | None) -> None:
    """Send every event after ``after`` once and in order, for ever; from now on, behind a marker, if it is None.

    An event that waits for an older transaction to end is looked for again soon, by itself: nobody notifies of that.
    """
    settle_s = FIRST_SETTLE_S
    async with services.hub.subscribe({f"e:{which.project_id}"}) as subscription:
        if after is None:
            marker, after = await snapshot(services.database)
            await socket.send({"type": "event", "event": marker})
        while True:
            read = await read_events(services.database, which, after)
            after = read.next
            for event in read.events:
                await socket.send({"type": "event", "event": event})
            if read.more:
                continue
            if read.unsettled:
                await asyncio.sleep(settle_s)
                settle_s = min(MAX_SETTLE_S, settle_s * 2)
            else:
                settle_s = FIRST_SETTLE_S
                await socket.pause(subscription)
