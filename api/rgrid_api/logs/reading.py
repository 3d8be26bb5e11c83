"""Reading logs by cursor, wherever they are: in the database while they are fresh, in the object store later.

What is read is one snapshot: chunks of an attempt come in order and without a hole, and an attempt follows another
only when the first one's log has been read to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rgrid_api.logs.archive import members, unpack
from rgrid_api.logs.chunks import Chunk, Cursor
from rgrid_shared.errors import NotFound

if TYPE_CHECKING:
    from rgrid_api.db.session import Database
    from rgrid_api.storage.s3 import ObjectStore

MAX_CHUNKS: Final = 500
PAGE_BYTES: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Page:
    """Chunks after a cursor. ``next``: where to go on. ``more``: the page was full.

    ``ended``: nothing will ever follow. ``final``: the execution has ended. ``version`` and ``phase`` are its
    state in the snapshot that was read.
    """

    chunks: list[Chunk]
    next: Cursor
    more: bool
    ended: bool
    final: bool
    version: int
    phase: str


async def read_page(
    database: Database,
    store: ObjectStore,
    execution_id: str,
    after: Cursor,
    *,
    limit_bytes: int = PAGE_BYTES,
) -> Page:
    """The chunks after ``after``: about ``limit_bytes``, at least one if there is any.

    Raises ``NotFound`` for an unknown execution, ``Unreachable`` if archived log cannot be fetched.
    """
    async with database.read() as tx:
        result = await tx.run(
            "log_page",
            execution_id=execution_id,
            attempt=after.attempt,
            seq=after.seq,
            limit_bytes=limit_bytes,
            most=MAX_CHUNKS,
        )
        rows = result.all()
    if not rows:
        raise NotFound(f"there is no execution {execution_id}")
    chunks: list[Chunk] = []
    at = after
    budget = limit_bytes
    whole = True
    for row in rows:
        if row.attempt is None:
            continue
        if row.attempt > at.attempt:
            if not whole:
                break
            at = Cursor(row.attempt, 0)
        if row.log_object is not None:
            found = await _archived(store, row, at, budget)
        else:
            found = [] if row.seq is None else [Chunk(row.attempt, row.seq, row.stream, row.at, row.data)]
        for chunk in found:
            if budget <= 0 or chunk.seq != at.seq + 1:
                break
            chunks.append(chunk)
            budget -= len(chunk.data)
            at = chunk.cursor
        whole = at.seq >= row.log_seq
    head = rows[0]
    current = [row for row in rows if row.attempt == head.latest_attempt]
    more = not whole or len(rows) == MAX_CHUNKS
    ended = head.final and not more and at.attempt >= head.latest_attempt
    return Page(chunks, at, more, ended, head.final, head.version, current[-1].phase if current else "")


async def _archived(store: ObjectStore, row: Any, at: Cursor, budget: int) -> Sequence[Chunk]:
    """Archived chunks of one attempt after ``at``: members until ``budget`` bytes are there."""
    found: list[Chunk] = []
    for member in members(row.log_index or ()):
        if member.last <= at.seq:
            continue
        if budget <= 0:
            break
        data = await store.get_range(row.log_object, member.offset, member.size)
        for chunk in unpack(data, row.attempt):
            if chunk.seq > at.seq:
                found.append(chunk)
                budget -= len(chunk.data)
    return found
