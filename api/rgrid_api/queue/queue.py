"""What users do to the queue: seal a batch, cancel, run again.

Large batches are changed page by page, each page a transaction of its own that stays within two seconds; what a
crash leaves undone of a cancelled batch, the promoter finishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from rgrid_api.db.session import Database, Tx
from rgrid_api.new_ids import new_ids
from rgrid_api.queue.claiming import Claims
from rgrid_api.queue.promoter import promote, settle
from rgrid_api.queue.timing import Timing
from rgrid_shared.errors import Conflict
from rgrid_shared.ids import Kind

PAGE: Final = 5_000
_LOCKED_PAUSE_S: Final = 0.02
_LOCKED_TRIES: Final = 100


class Queue:
    """Every transition is one guarded statement that names the state and attempt it leaves."""

    def __init__(self, database: Database, timing: Timing) -> None:
        self._database = database
        self.timing = timing
        self.claims = Claims(timing)

    async def seal(self, tx: Tx, batch_id: str) -> None:
        """The last item has arrived: make the batch visible and its first executions claimable, in ``tx``.

        Executions have been inserted as pending and ``received`` counts all of them. Raises Conflict otherwise, or
        if the batch is sealed already.
        """
        row = (await tx.run("batch_seal", batch_id=batch_id)).one_or_none()
        if row is None:
            raise Conflict(f"{batch_id} is not complete, or was sealed before")
        tx.event("batch.created", project_id=row.project_id, batch_id=batch_id, data={"total": row.total})
        await promote(tx, [batch_id])
        tx.notify(f"b:{batch_id}")

    async def cancel(self, batch_id: str, *, indexes: Sequence[int] | None = None, reason: str = "") -> int:
        """Cancel a batch (``indexes`` None) or some of its items; how many executions that changed.

        What waits is cancelled at once; what runs is told to stop, and is final when its runner says so. When this
        returns nothing of it will start any more. Opens its own transactions.
        """
        message = reason or "Cancelled by its user."
        whole = 0
        if indexes is None:
            async with self._database.transaction() as tx:
                row = (await tx.run("batch_cancel", batch_id=batch_id)).one_or_none()
                if row is None:
                    return 0
                whole = row.open
                tx.event("batch.cancelled", project_id=row.project_id, batch_id=batch_id, data={"reason": reason})
        changed = 0
        for _ in range(_LOCKED_TRIES):
            count, left = await self._cancel_page(batch_id, indexes, message)
            changed += count
            if not left:
                break
            if not count:
                await asyncio.sleep(_LOCKED_PAUSE_S)
        await self.settle([batch_id])
        return max(whole, changed)  # the promoter lends a hand with a whole batch

    async def cancel_execution(self, execution_id: str, *, reason: str = "") -> int:
        """Cancel one execution; 1 if that changed it, 0 if it has ended."""
        async with self._database.read() as tx:
            place = (await tx.run("execution_place", execution_id=execution_id)).one_or_none()
        return 0 if place is None else await self.cancel(place.batch_id, indexes=[place.item_index], reason=reason)

    async def settle(self, batch_ids: Sequence[str]) -> None:
        """Do now for these batches what the promoter would do within a second."""
        async with self._database.transaction() as tx:
            await settle(tx, batch_ids)

    async def _cancel_page(self, batch_id: str, indexes: Sequence[int] | None, message: str) -> tuple[int, bool]:
        """One page: how many it changed, and whether anything still waits (rows that a runner was just claiming)."""
        which = {"batch_id": batch_id, "indexes": None if indexes is None else list(indexes)}
        async with self._database.transaction() as tx:
            waiting = list(await tx.run("cancel_waiting", **which, reason=message, page=PAGE))
            running = list(await tx.run("cancel_running", **which, reason=message))
            left = bool((await tx.run("waiting_left", **which)).scalar_one())
            tx.notify(*(f"r:{row.runner_id}" for row in running))
            tx.notify(*(f"l:{row.id}" for row in waiting))
            if waiting or running:
                tx.notify(f"b:{batch_id}")
        return len(waiting) + len(running), left

    async def retry(self, batch_id: str, *, indexes: Sequence[int] | None = None, failed: bool = False) -> list[str]:
        """Run ended items again, each as a new execution of the same batch and item; ids of the new ones.

        ``indexes`` picks items (None: all); ``failed`` keeps those that did not succeed. Items that have not ended
        are left alone. Opens its own transactions.
        """
        made: list[str] = []
        after = -1
        while True:
            async with self._database.transaction() as tx:
                await tx.run("batches_lock", ids=[batch_id])
                old = list(
                    (
                        await tx.run(
                            "retryable",
                            batch_id=batch_id,
                            indexes=None if indexes is None else list(indexes),
                            failed=failed,
                            after=after,
                            page=PAGE,
                        )
                    ).scalars()
                )
                if not old:
                    return made
                rows = list(await tx.run("retry", old_ids=old, new_ids=new_ids(Kind.EXECUTION, len(old))))
                project_id = (await tx.run("batch_reopen", batch_id=batch_id)).scalar_one()
                await promote(tx, [batch_id])
                tx.event("batch.retried", project_id=project_id, batch_id=batch_id, data={"count": len(rows)})
                tx.notify(f"b:{batch_id}")
            made.extend(row.id for row in sorted(rows, key=lambda row: row.item_index))
            after = max(row.item_index for row in rows)
            if len(old) < PAGE:
                return made
