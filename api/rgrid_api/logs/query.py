"""One request for a page of log, answered at once or when there is something to say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rgrid_api.logs.chunks import Chunk, Cursor
from rgrid_api.logs.reading import Page, read_page
from rgrid_api.logs.tail import since, tail
from rgrid_shared.errors import InvalidRequest
from rgrid_shared.views import LogPage

if TYPE_CHECKING:
    from rgrid_api.services import Services

LOOK_S: Final = 4.0
"""Notifications are hints: a waiting request looks by itself this often."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """``tail``: lines, or None; ``since``: a time, or None; ``wait_s``: seconds."""

    after: Cursor
    tail: int | None
    since: datetime | None
    limit_bytes: int
    wait_s: float

    def __post_init__(self) -> None:
        if sum((self.after != Cursor(), self.tail is not None, self.since is not None)) > 1:
            raise InvalidRequest("after, tail and since exclude each other")


async def answer_page(services: Services, execution_id: str, query: LogQuery) -> LogPage:
    """The page that ``query`` asks for; empty after ``wait_s`` seconds without news."""
    chunks, start = await _start(services, execution_id, query)
    if chunks:
        page = await _read(services, execution_id, start, query)
    else:
        page = await _wait(services, execution_id, start, query)
    return {
        "chunks": [chunk.view() for chunk in (*chunks, *page.chunks)],
        "next": str(page.next),
        "ended": page.ended,
    }


async def _start(services: Services, execution_id: str, query: LogQuery) -> tuple[list[Chunk], Cursor]:
    """Chunks that stand before the cursor to go on from (a tail is read backwards), and that cursor."""
    if query.tail is not None:
        return await tail(services.database, services.store, execution_id, query.tail)
    if query.since is not None:
        return [], await since(services.database, services.store, execution_id, query.since)
    return [], query.after


async def _read(services: Services, execution_id: str, start: Cursor, query: LogQuery) -> Page:
    return await read_page(services.database, services.store, execution_id, start, limit_bytes=query.limit_bytes)


async def _wait(services: Services, execution_id: str, start: Cursor, query: LogQuery) -> Page:
    """The first page that says anything, or the last one that was read in ``wait_s`` seconds."""
    if not query.wait_s:
        return await _read(services, execution_id, start, query)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + query.wait_s
    async with services.database.read() as tx:
        batch_id = (await tx.run("log_batch", execution_id=execution_id)).scalar_one_or_none()
    async with services.hub.subscribe({f"l:{execution_id}", f"b:{batch_id}"}) as subscription:
        while True:
            page = await _read(services, execution_id, start, query)
            left = deadline - loop.time()
            if page.chunks or page.ended or left <= 0 or services.hub.stopping:
                return page
            await subscription.wait(min(left, LOOK_S))
