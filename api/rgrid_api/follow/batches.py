"""Following a batch: how many items stand where, every item's states, and the end.

Changes are found by ``updated_at``, which is set before its transaction commits: a row may become visible after
later ones have been read. So every read goes back a moment, one in two seconds goes back further than any transaction
may last, and a last one compares everything. What was sent before is recognised by its version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rgrid_api.batches.views import load_batch
from rgrid_api.db.tables import executions
from rgrid_api.executions.outputs import load_outputs
from rgrid_api.executions.views import EXECUTION_SELECT, execution_view
from rgrid_api.follow.seen import Seen
from rgrid_api.follow.socket import Socket
from rgrid_shared.errors import NotFound
from rgrid_shared.views import BatchView

if TYPE_CHECKING:
    from rgrid_api.services import Services

ROWS: Final = 5_000
MESSAGE_EXECUTIONS: Final = 1_000
MESSAGE_OUTPUTS: Final = 200
"""Executions in a message that carries manifests."""
PACE_S: Final = 0.05
"""At most 20 rounds a second, however much happens."""
MOMENT: Final = timedelta(seconds=0.25)
WINDOW: Final = timedelta(seconds=12)
"""Longer than a transaction lasts plus the time between two wide reads (at most 4 s)."""
WIDE_S: Final = 2.0


class BatchFollower:
    """One follower of one batch, which its caller has made sure may be seen.

    ``after``: executions that have not changed since then are not told of. ``outputs``: ended executions come with
    their outputs.
    """

    def __init__(
        self, services: Services, socket: Socket, *, batch_id: str, after: datetime | None, outputs: bool
    ) -> None:
        self._services = services
        self._socket = socket
        self._batch_id = batch_id
        self._after = None if after is None else after - WINDOW
        self._outputs = outputs

    async def run(self) -> None:
        """Tell everything, then every change, then the end. Raises ``NotFound`` if the batch is deleted meanwhile."""
        loop = asyncio.get_running_loop()
        async with self._services.hub.subscribe({f"b:{self._batch_id}"}) as subscription:
            async with self._services.database.read() as tx:
                high: datetime = (await tx.run("follow_clock")).scalar_one()
            batch = await self._load()
            seen = Seen(batch["total"])
            shown = await self._tell_batch(batch, None)
            await self._compare_all(seen, first=True)
            wide_at = loop.time()
            since = high - WINDOW
            while True:
                began = loop.time()
                high = await self._tell_changes(seen, since, high)
                if seen.ended or began >= wide_at:
                    batch = await self._load()
                    wide_at = began + WIDE_S
                if batch["done"] or seen.ended:
                    await self._compare_all(seen, first=False)
                # A cancelled batch may end before all of its items have arrived.
                over = seen.ended or (batch["done"] and not seen.open)
                shown = await self._tell_batch({**batch, "counts": seen.counts, "done": over}, shown)
                if over:
                    await self._socket.end()
                    return
                if await self._socket.pause(subscription):
                    await asyncio.sleep(max(0.0, began + PACE_S - loop.time()))
                since = high - (WINDOW if loop.time() >= wide_at else MOMENT)

    async def _load(self) -> BatchView:
        async with self._services.database.read() as tx:
            batch = await load_batch(tx, self._batch_id)
        if batch is None:
            raise NotFound(f"batch {self._batch_id} has been deleted")
        return batch

    async def _tell_batch(self, batch: BatchView, shown: BatchView | None) -> BatchView:
        """Send the batch if it looks other than ``shown``."""
        if batch != shown:
            await self._socket.send({"type": "batch", "batch": batch})
        return batch

    async def _tell_changes(self, seen: Seen, since: datetime, high: datetime) -> datetime:
        """Send what changed at ``since`` or later; the latest change that was read."""
        async for rows in self._pages("follow_changes", since=since, after=""):
            await self._tell(seen, [row for row in rows if not seen.knows(row.item_index, row.id, row.version)])
            high = max(high, rows[-1].updated_at)
        return high

    async def _compare_all(self, seen: Seen, *, first: bool) -> None:
        """Send every item that is not as it was sent before."""
        async for rows in self._pages("follow_items", after=-1):
            news = [row for row in rows if not seen.knows(row.item_index, row.id, row.version)]
            if first and self._after is not None:
                for row in news:
                    if row.updated_at < self._after:
                        seen.take(row.item_index, row.id, row.version, row.status)
                news = [row for row in news if row.updated_at >= self._after]
            await self._tell(seen, news)

    async def _pages(self, name: str, **start: Any) -> AsyncIterator[Sequence[Any]]:
        """Rows of one of the queries, page by page; never an empty page."""
        while True:
            async with self._services.database.read() as tx:
                rows = (await tx.run(name, batch_id=self._batch_id, most=ROWS, **start)).all()
            if rows:
                yield rows
            if len(rows) < ROWS:
                return
            last = rows[-1]
            start = (
                {"after": last.item_index} if name == "follow_items" else {"since": last.updated_at, "after": last.id}
            )

    async def _tell(self, seen: Seen, rows: Sequence[Any]) -> None:
        """Send these executions as they are by now."""
        step = MESSAGE_OUTPUTS if self._outputs else MESSAGE_EXECUTIONS
        for start in range(0, len(rows), step):
            ids = [row.id for row in rows[start : start + step]]
            async with self._services.database.read() as tx:
                query = EXECUTION_SELECT.where(executions.c.id.in_(ids), executions.c.latest)
                found = (await tx.conn.execute(query.order_by(executions.c.item_index))).mappings().all()
                news = [row for row in found if seen.take(row["item_index"], row["id"], row["version"], row["status"])]
                ended = [row["id"] for row in news if row["ended_at"] is not None]
                stored = await load_outputs(tx, self._services.store, ended) if self._outputs and ended else []
            if news:
                views = [execution_view(row) for row in news]
                await self._socket.send({"type": "executions", "executions": views, "outputs": stored})
