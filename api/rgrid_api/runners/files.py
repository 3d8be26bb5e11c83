"""What a live attempt may fetch and store: its blobs, places for its outputs, its stdin."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Final

from rgrid_api.blobs.places import new_upload, output_key
from rgrid_api.db.session import Database, Tx
from rgrid_api.events.hub import Hub
from rgrid_api.new_ids import new_ids
from rgrid_api.queue.ending import standings
from rgrid_api.queue.outcome import Standing
from rgrid_api.runners.handover import blob_places
from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.errors import StaleAttempt
from rgrid_shared.ids import Kind
from rgrid_shared.protocol import (
    BlobUrlsReply,
    BlobUrlsRequest,
    OutputsReply,
    OutputsRequest,
    StdinPart,
    StdinQuery,
    StdinReply,
)

STDIN_PAGE: Final = 64
LOOK_S: Final = 5.0


async def live_attempt(tx: Tx, runner_id: str, execution_id: str, attempt: int) -> Standing:
    """The attempt's standing. Raises StaleAttempt unless it is live and this runner's."""
    ref = (execution_id, attempt)
    standing = (await standings(tx, [ref])).get(ref)
    if standing is None or not standing.live or standing.runner_id != runner_id:
        raise StaleAttempt(f"attempt {attempt} of {execution_id} is not live on this runner")
    return standing


async def output_places(
    database: Database, store: ObjectStore, runner_id: str, request: OutputsRequest
) -> OutputsReply:
    """A place for each size, in order, below the attempt's own prefix."""
    async with database.read() as tx:
        standing = await live_attempt(tx, runner_id, request["execution_id"], request["attempt"])
    names = new_ids(Kind.UPLOAD, len(request["sizes"]))
    uploads = await asyncio.gather(
        *(
            new_upload(store, output_key(standing.project_id, request["execution_id"], request["attempt"], name), size)
            for name, size in zip(names, request["sizes"], strict=True)
        )
    )
    return {"uploads": uploads}


async def blob_urls(database: Database, store: ObjectStore, runner_id: str, request: BlobUrlsRequest) -> BlobUrlsReply:
    """Fresh URLs of blobs of the attempt's project, and which of them the grid does not have."""
    async with database.read() as tx:
        standing = await live_attempt(tx, runner_id, request["execution_id"], request["attempt"])
        places = await blob_places(tx, {(standing.project_id, sha256) for sha256 in request["sha256"]})
    known = {place.sha256: place.url(store) for place in places.values()}
    return {
        "blobs": [known[sha256] for sha256 in dict.fromkeys(request["sha256"]) if sha256 in known],
        "missing": [sha256 for sha256 in dict.fromkeys(request["sha256"]) if sha256 not in known],
    }


async def stdin_after(
    database: Database, hub: Hub, runner_id: str, query: StdinQuery, gone: Callable[[], Awaitable[bool]]
) -> StdinReply:
    """Chunks after ``after``, waiting up to ``wait_s`` for one. Raises StaleAttempt as soon as it is one."""
    loop = asyncio.get_running_loop()
    until = loop.time() + query["wait_s"]
    async with hub.subscribe({f"i:{query['execution_id']}", f"r:{runner_id}"}) as subscription:
        while True:
            async with database.read() as tx:
                await live_attempt(tx, runner_id, query["execution_id"], query["attempt"])
                rows = await tx.run(
                    "stdin_after", execution_id=query["execution_id"], after=query["after"], page=STDIN_PAGE
                )
                chunks: list[StdinPart] = [
                    {"seq": row.seq, "data": base64.b64encode(row.data).decode(), "eof": row.eof} for row in rows
                ]
            left_s = until - loop.time()
            if chunks or left_s <= 0 or hub.stopping:
                return {"chunks": chunks}
            await subscription.wait(min(left_s, LOOK_S))
            if await gone():
                return {"chunks": []}
