"""WebSockets of executions and batches. Problems come as a last message, then the socket closes with 1008."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from rgrid_api import resolve
from rgrid_api.deps import CurrentUser, Parts
from rgrid_api.follow.batches import BatchFollower
from rgrid_api.follow.executions import follow_execution
from rgrid_api.follow.socket import opened
from rgrid_api.logs.chunks import Cursor
from rgrid_api.times import from_wire

router = APIRouter(tags=["follow"])


@router.websocket("/v1/executions/{execution}/follow")
async def follow_one(
    websocket: WebSocket, execution: str, parts: Parts, user: CurrentUser, after: str = "", outputs: bool = False
) -> None:
    """Log chunks after ``after`` (``ATTEMPT:SEQ``), state changes, and the end once all of both has been sent."""
    cursor = Cursor.parse(after)
    async with parts.database.read() as tx:
        execution_id = await resolve.execution_id(tx, user.project_id, execution)
        batch_id = (await tx.run("log_batch", execution_id=execution_id)).scalar_one()
    async with opened(websocket) as socket:
        await follow_execution(
            parts, socket, execution_id=execution_id, batch_id=batch_id, after=cursor, outputs=outputs
        )


@router.websocket("/v1/batches/{batch}/follow")
async def follow_all(
    websocket: WebSocket, batch: str, parts: Parts, user: CurrentUser, after: str = "", outputs: bool = False
) -> None:
    """Counts, every item's states (``outputs``: with what ended ones left), and the end once every item has ended."""
    moment = from_wire(after, "after") if after else None
    async with parts.database.read() as tx:
        batch_id = await resolve.batch_id(tx, user.project_id, batch)
    async with opened(websocket) as socket:
        await BatchFollower(parts, socket, batch_id=batch_id, after=moment, outputs=outputs).run()
