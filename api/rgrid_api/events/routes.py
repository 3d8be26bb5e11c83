"""The events feed over HTTP and WebSocket."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, WebSocket

from rgrid_api import resolve
from rgrid_api.deps import CurrentUser, Parts
from rgrid_api.events.feed import PAGE, EventCursor, Filter, read_events
from rgrid_api.events.follow import follow_events
from rgrid_api.follow.socket import opened
from rgrid_shared.views import EventsPage

router = APIRouter(tags=["events"])


async def chosen(
    parts: Parts,
    user: CurrentUser,
    batch: str = "",
    execution: str = "",
    kind: Annotated[list[str] | None, Query()] = None,
) -> Filter:
    """Which events are asked for. Raises ``NotFound`` for a batch or execution that is not the project's."""
    async with parts.database.read() as tx:
        return Filter(
            project_id=user.project_id,
            batch_id=await resolve.batch_id(tx, user.project_id, batch) if batch else None,
            execution_id=await resolve.execution_id(tx, user.project_id, execution) if execution else None,
            kinds=kind or (),
        )


Chosen = Annotated[Filter, Depends(chosen)]


@router.get("/v1/events", summary="What happened, oldest first")
async def events(
    parts: Parts, which: Chosen, after: str = "", limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE
) -> EventsPage:
    """Events after the cursor ``after``, from the beginning if it is empty. ``next`` is where to go on."""
    read = await read_events(parts.database, which, EventCursor.parse(after) if after else EventCursor(), limit=limit)
    return {"events": read.events, "next": str(read.next)}


@router.websocket("/v1/events/follow")
async def follow(websocket: WebSocket, parts: Parts, which: Chosen, after: str = "") -> None:
    """Every event after ``after`` once and in order; from now on, behind a marker ``snapshot``, if it is empty."""
    cursor = EventCursor.parse(after) if after else None
    async with opened(websocket) as socket:
        await follow_events(parts, socket, which, cursor)
