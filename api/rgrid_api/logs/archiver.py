"""Moves the logs of ended attempts from the database to the object store.

Many attempts share one object. The order makes a crash at any point harmless: the object is stored; then the
attempts' rows name it (from that moment on readers use it); then the chunks are deleted; then the row says so. Two
archivers may work on one attempt: the first to name its object wins.
"""

from __future__ import annotations

import itertools
import json
import logging
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import anyio.to_thread

from rgrid_api.blobs.places import log_key
from rgrid_api.logs.archive import MEMBER_BYTES, Member, members, pack
from rgrid_api.logs.chunks import Chunk

if TYPE_CHECKING:
    from rgrid_api.db.session import Database
    from rgrid_api.storage.s3 import ObjectStore

ATTEMPTS: Final = 500
OBJECT_BYTES: Final = 64 * 1024**2
IN_MEMORY_BYTES: Final = 4 * 1024**2
CHUNKS: Final = 2_000
DELETE_ROWS: Final = 5_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Object:
    """An object that is being put together, and what it holds: (execution, attempt) → members."""

    file: BinaryIO
    size: int = 0
    held: dict[tuple[str, int], list[Member]] = field(default_factory=dict)


class Archiver:
    """Archives attempts that ended more than ``after_s`` seconds ago."""

    def __init__(self, database: Database, store: ObjectStore, *, after_s: float) -> None:
        self._database = database
        self._store = store
        self._after_s = after_s

    async def run_once(self) -> int:
        """Archive what is due, up to 500 attempts; how many were. One indexed query if nothing is.

        Raises ``Unreachable`` if the store does not answer: nothing is lost, the next run begins again.
        """
        async with self._database.read() as tx:
            due = (await tx.run("log_archivable", older_than_s=self._after_s, most=ATTEMPTS)).all()
        named = {(row.execution_id, row.attempt): members(row.log_index) for row in due if row.log_object is not None}
        await self._delete(named)
        fresh = sorted((row for row in due if row.log_object is None), key=attrgetter("project_id"))
        for project_id, rows in itertools.groupby(fresh, key=attrgetter("project_id")):
            waiting = list(rows)
            while waiting:
                waiting = await self._archive(project_id, waiting)
        return len(due)

    async def _archive(self, project_id: str, rows: Sequence[Any]) -> list[Any]:
        """Put the first of ``rows`` into one object, as many as fit; the rows that are left."""
        left = list(rows)
        key = log_key(project_id, secrets.token_hex(16))
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file:
            target = _Object(cast("BinaryIO", file))
            while left and target.size < OBJECT_BYTES:
                row = left.pop(0)
                await self._add(target, row)
            if not target.held:
                return left
            target.file.seek(0)
            await self._store.put_file(key, target.file, target.size)
        taken = await self._name(key, target)
        if not taken:
            await self._store.delete([key])
        await self._delete({which: target.held[which] for which in taken})
        return left

    async def _add(self, target: _Object, row: Any) -> None:
        """Write all chunks of an attempt to the object, unless another archiver has deleted them meanwhile."""
        written: list[Member] = []
        start, after = target.size, 0
        while after < row.log_seq:
            async with self._database.read() as tx:
                result = await tx.run(
                    "log_chunks_after",
                    execution_id=row.execution_id,
                    attempt=row.attempt,
                    after=after,
                    most=CHUNKS,
                    limit_bytes=MEMBER_BYTES,
                )
                chunks = [Chunk(row.attempt, c.seq, c.stream, c.at, c.data) for c in result]
            if [chunk.seq for chunk in chunks] != list(range(after + 1, after + 1 + len(chunks))) or not chunks:
                log.info("the log of %s attempt %d is not complete here; left alone", row.execution_id, row.attempt)
                target.file.seek(start)
                target.file.truncate()
                target.size = start
                return
            member, data = await anyio.to_thread.run_sync(pack, chunks, target.size)
            target.file.write(data)
            target.size += len(data)
            written.append(member)
            after = chunks[-1].seq
        target.held[row.execution_id, row.attempt] = written

    async def _name(self, key: str, target: _Object) -> list[tuple[str, int]]:
        """Let the attempts' rows name the object; those that this archiver was first for."""
        async with self._database.transaction() as tx:
            result = await tx.run(
                "log_archived",
                log_object=key,
                executions=[execution_id for execution_id, _ in target.held],
                attempts=[attempt for _, attempt in target.held],
                offsets=[found[0].offset for found in target.held.values()],
                indexes=[json.dumps([member.to_json() for member in found]) for found in target.held.values()],
            )
            return [(row.execution_id, row.attempt) for row in result]

    async def _delete(self, named: Mapping[tuple[str, int], Sequence[Member]]) -> None:
        """Delete the chunks of attempts whose rows name their object; a few thousand in a transaction."""
        if not named:
            return
        for ranges in _shares(named):
            async with self._database.transaction() as tx:
                await tx.run(
                    "log_delete_ranges",
                    executions=[which[0] for which, _, _ in ranges],
                    attempts=[which[1] for which, _, _ in ranges],
                    afters=[after for _, after, _ in ranges],
                    uptos=[upto for _, _, upto in ranges],
                )
        async with self._database.transaction() as tx:
            await tx.run(
                "log_done_with",
                executions=[execution_id for execution_id, _ in named],
                attempts=[attempt for _, attempt in named],
                sizes=[sum(member.size for member in held) for held in named.values()],
            )


def _shares(named: Mapping[tuple[str, int], Sequence[Member]]) -> Iterator[list[tuple[tuple[str, int], int, int]]]:
    """All chunks of these attempts as ranges (attempt, after, up to), in lists of ``DELETE_ROWS`` chunks or fewer."""
    share: list[tuple[tuple[str, int], int, int]] = []
    room = DELETE_ROWS
    for which, held in named.items():
        after, last = 0, held[-1].last
        while after < last:
            upto = min(last, after + room)
            share.append((which, after, upto))
            room -= upto - after
            after = upto
            if not room:
                yield share
                share, room = [], DELETE_ROWS
    if share:
        yield share
