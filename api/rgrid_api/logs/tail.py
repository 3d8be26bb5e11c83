"""Where to begin reading: the last N lines, or everything since a time.

Both walk to their place without reading what lies before it: backwards chunk by chunk in the database, member by
member in the archive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rgrid_api.logs.archive import members, unpack
from rgrid_api.logs.chunks import Chunk, Cursor
from rgrid_api.times import to_wire

if TYPE_CHECKING:
    from rgrid_api.db.session import Database
    from rgrid_api.storage.s3 import ObjectStore

BATCH: Final = 64
TAIL_BYTES: Final = 8 * 1024**2
"""A tail ends here, however few its lines are."""


async def tail(
    database: Database, store: ObjectStore, execution_id: str, lines: int, *, limit_bytes: int = TAIL_BYTES
) -> tuple[list[Chunk], Cursor]:
    """The last ``lines`` lines of the latest attempt that wrote anything, and the cursor after them.

    Lines are counted over all streams as they were written; text after the last newline counts as one. The first
    chunk is cut to begin with its line.
    """
    row = await _latest(database, execution_id)
    if row is None:
        return [], Cursor()
    end = Cursor(row.attempt, row.log_seq)
    found: list[Chunk] = []
    # The newline that ends the very last line begins no further one.
    wanted = lines
    size = 0
    async for chunk in _backwards(database, store, execution_id, row):
        if wanted <= 0 or size >= limit_bytes:
            break
        data = chunk.data
        if not found and data.endswith(b"\n"):
            wanted += 1
        newlines = data.count(b"\n")
        if newlines >= wanted:
            place = len(data)
            for _ in range(wanted):
                place = data.rindex(b"\n", 0, place)
            if place + 1 < len(data):
                found.append(replace(chunk, data=data[place + 1 :]))
            break
        wanted -= newlines
        size += len(data)
        found.append(chunk)
    found.reverse()
    return found, end


async def since(database: Database, store: ObjectStore, execution_id: str, moment: datetime) -> Cursor:
    """The cursor before the first chunk that was written at ``moment`` or later; the end if there is none."""
    end = Cursor()
    for row in await _attempts(database, execution_id):
        seq = await _first_since(database, store, execution_id, row, moment)
        if seq is not None:
            return Cursor(row.attempt, seq - 1)
        end = Cursor(row.attempt, row.log_seq)
    return end


async def _attempts(database: Database, execution_id: str) -> list[Any]:
    async with database.read() as tx:
        return list((await tx.run("log_attempts", execution_id=execution_id)).all())


async def _latest(database: Database, execution_id: str) -> Any:
    rows = await _attempts(database, execution_id)
    return next((row for row in reversed(rows) if row.log_seq), None)


async def _first_since(
    database: Database, store: ObjectStore, execution_id: str, row: Any, moment: datetime
) -> int | None:
    if row.log_object is None:
        async with database.read() as tx:
            result = await tx.run("log_first_since", execution_id=execution_id, attempt=row.attempt, since=moment)
            seq: int | None = result.scalar_one_or_none()
        if seq is not None:
            return seq
        row = await _again(database, execution_id, row)
    limit = to_wire(moment)
    for member in members(row.log_index or ()):
        if member.until >= limit:
            data = await store.get_range(row.log_object, member.offset, member.size)
            return next(chunk.seq for chunk in unpack(data, row.attempt) if chunk.at >= moment)
    return None


async def _again(database: Database, execution_id: str, row: Any) -> Any:
    """The attempt's row as it is now: its chunks may have moved to the archive since it was read."""
    rows = await _attempts(database, execution_id)
    return next((fresh for fresh in rows if fresh.attempt == row.attempt), row)


async def _backwards(database: Database, store: ObjectStore, execution_id: str, row: Any) -> AsyncIterator[Chunk]:
    """The chunks of an attempt, last first, from ``row.log_seq``."""
    before = row.log_seq + 1
    while before > 1 and row.log_object is None:
        async with database.read() as tx:
            result = await tx.run(
                "log_backwards", execution_id=execution_id, attempt=row.attempt, before=before, most=BATCH
            )
            rows = result.all()
        for entry in rows:
            yield Chunk(row.attempt, entry.seq, entry.stream, entry.at, entry.data)
        if rows:
            before = rows[-1].seq
        else:
            row = await _again(database, execution_id, row)
            if row.log_object is None:
                return
    for member in reversed(members(row.log_index or ())):
        if member.first < before:
            data = await store.get_range(row.log_object, member.offset, member.size)
            for chunk in reversed(list(unpack(data, row.attempt))):
                if chunk.seq < before:
                    yield chunk
