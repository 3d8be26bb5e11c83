"""Who may be queued: caps, canaries, pauses, failures, retry delays.

A finish hands its own place on without counting (``hand_on``). The promoter comes by every second, counts under
the batch's lock, and is the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rgrid_api.db.session import Database, Tx

WINDOW: Final = 2_000
"""Executions of one batch that stand queued at most; the rest waits as pending."""
DUE_PAGE: Final = 50
STOP_PAGE: Final = 5_000


async def promote(tx: Tx, batch_ids: Sequence[str]) -> int:
    """Queue what these batches have room for; how many that were.

    ``tx`` has locked the batches in an earlier statement: this one counts.
    """
    promoted = {row.batch_id: row.promoted for row in await tx.run("promote", ids=list(batch_ids), window=WINDOW)}
    if promoted:
        tx.notify("q", *(f"b:{batch_id}" for batch_id in promoted))
    return sum(promoted.values())


async def hand_on(tx: Tx, freed: Mapping[str, int], held: Sequence[str]) -> None:
    """Queue up to ``freed[batch]`` further executions of each batch, and end those of ``held`` that are done.

    ``tx`` has locked the batches in ``held`` in an earlier statement.
    """
    rows = await tx.run("pass_on", ids=list(freed), slots=list(freed.values()), held=list(held))
    for row in rows:
        tx.notify(f"b:{row.id}")
        if row.promoted:
            tx.notify("q")
        else:
            tx.event("batch.ended", project_id=row.project_id, batch_id=row.id)


async def settle(tx: Tx, batch_ids: Sequence[str]) -> None:
    """Lock these batches and bring them to where they should be: stopped, promoted, ended."""
    await tx.run("batches_lock", ids=list(batch_ids))
    for row in await tx.run("batches_stop", ids=list(batch_ids), page=STOP_PAGE):
        tx.notify(f"b:{row.batch_id}")
    await promote(tx, batch_ids)
    await hand_on(tx, {}, batch_ids)


class Promoter:
    """Brings every open batch to where it should be. One process of the grid does so at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_once(self) -> int:
        """Stop, promote and end what is due; how many batches were looked at. One cheap query if nothing is due."""
        looked_at, after = 0, ""
        while True:
            async with self._database.read() as tx:
                due = list((await tx.run("batches_due", after=after, page=DUE_PAGE)).scalars())
            if due:
                async with self._database.transaction() as tx:
                    if not (await tx.run("promoter_turn")).scalar_one():
                        return looked_at
                    await settle(tx, due)
            looked_at += len(due)
            if len(due) < DUE_PAGE:
                return looked_at
            after = due[-1]
