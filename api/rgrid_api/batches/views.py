"""Batches as users see them: the SELECT, the counts, and the view of a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from sqlalchemy import RowMapping, Select, select

from rgrid_api.batches.shapes import Host, hold_sentence
from rgrid_api.db.session import Tx
from rgrid_api.db.tables import batches, executions
from rgrid_api.times import to_wire
from rgrid_shared.errors import NotFound
from rgrid_shared.states import Status
from rgrid_shared.views import BatchDetail, BatchView, Counts

_FIRST: Final = (
    select(executions.c.id)
    .where(executions.c.batch_id == batches.c.id, executions.c.item_index == 0, executions.c.latest)
    .scalar_subquery()
)

BATCH_SELECT: Final[Select[Any]] = select(
    batches.c.id,
    batches.c.name,
    batches.c.script,
    batches.c.runtime,
    batches.c.spec["resources"].label("resources"),
    batches.c.single,
    batches.c.total,
    batches.c.received,
    batches.c.parallel,
    batches.c.max_fails,
    batches.c.canary,
    batches.c.priority,
    batches.c.metadata,
    batches.c.created_at,
    batches.c.sealed_at,
    batches.c.started_at,
    batches.c.ended_at,
    batches.c.cancel_requested_at,
    _FIRST.label("first_execution_id"),
)


def no_counts() -> Counts:
    """Counts of a batch none of whose items have arrived."""
    return cast("Counts", dict.fromkeys((status.value for status in Status), 0))


def count(counts: Counts, *statuses: Status) -> int:
    """How many items stand in any of these statuses."""
    by_status = cast("dict[str, int]", counts)
    return sum(by_status[status] for status in statuses)


def batch_view(row: RowMapping, counts: Counts, *, hold: str = "") -> BatchView:
    """The view of one row of ``BATCH_SELECT``. ``hold``: why nothing of it can start, or empty."""
    sealed = row["sealed_at"] is not None
    return {
        "id": row["id"],
        "name": row["name"],
        "script": row["script"],
        "runtime": row["runtime"],
        "single": row["single"],
        "total": row["total"],
        "counts": counts,
        "done": row["ended_at"] is not None,
        "parallel": row["parallel"],
        "max_fails": row["max_fails"],
        "canary": row["canary"],
        "priority": row["priority"],
        "metadata": row["metadata"],
        "created_at": to_wire(row["created_at"]),
        "sealed_at": to_wire(row["sealed_at"]),
        "started_at": to_wire(row["started_at"]),
        "ended_at": to_wire(row["ended_at"]),
        "cancel_requested_at": to_wire(row["cancel_requested_at"]),
        "first_execution_id": (row["first_execution_id"] or "") if sealed else "",
        "hold": hold,
    }


async def counts_of(tx: Tx, batch_ids: Iterable[str]) -> dict[str, Counts]:
    """Counts of each of these batches, by id: one grouped query."""
    found = {batch_id: no_counts() for batch_id in batch_ids}
    if found:
        for row in await tx.run("batch_counts", ids=list(found)):
            cast("dict[str, int]", found[row.batch_id])[row.status] = row.number
    return found


async def batch_views(tx: Tx, rows: Iterable[RowMapping]) -> list[BatchView]:
    """Views of rows of ``BATCH_SELECT``, with counts and holds: two more queries at most."""
    rows = list(rows)
    counts = await counts_of(tx, [row["id"] for row in rows if not _arriving(row)])
    counts |= {row["id"]: _all_pending(row["received"]) for row in rows if _arriving(row)}
    waiting = [row for row in rows if may_be_held(row, counts[row["id"]])]
    hosts = await online_hosts(tx) if waiting else []
    holds = {row["id"]: hold_sentence(row["runtime"], row["resources"], hosts) for row in waiting}
    return [batch_view(row, counts[row["id"]], hold=holds.get(row["id"], "")) for row in rows]


def _arriving(row: RowMapping) -> bool:
    """True while items come in: none has been touched yet, so there is nothing to count."""
    return row["sealed_at"] is None and row["cancel_requested_at"] is None


def _all_pending(number: int) -> Counts:
    return cast("Counts", {**no_counts(), Status.PENDING.value: number})


async def load_batch(tx: Tx, batch_id: str) -> BatchView | None:
    """The view of one batch, or None. The caller has made sure that it may be seen."""
    row = (await tx.conn.execute(BATCH_SELECT.where(batches.c.id == batch_id))).mappings().one_or_none()
    return None if row is None else (await batch_views(tx, [row]))[0]


def may_be_held(row: RowMapping, counts: Counts) -> bool:
    """True if items are ready and none of them runs: then it is worth asking whether any runner could take them."""
    if row["sealed_at"] is None or row["ended_at"] is not None:
        return False
    return count(counts, Status.QUEUED) > 0 and count(counts, Status.RUNNING) == 0


async def online_hosts(tx: Tx) -> list[Host]:
    """What the runners that are online offer."""
    return await _hosts(tx, "hosts_online")


async def known_hosts(tx: Tx) -> list[Host]:
    """What all runners offer that were there in the last day."""
    return await _hosts(tx, "hosts_known")


async def _hosts(tx: Tx, query: str) -> list[Host]:
    return [
        Host(row["runtimes"], row["labels"], row["resources"], row["allowed_images"])
        for row in (await tx.run(query)).mappings()
    ]


async def batch_detail(tx: Tx, batch_id: str) -> BatchDetail:
    """One batch with its spec. Raises NotFound if it was just deleted."""
    query = BATCH_SELECT.add_columns(batches.c.spec).where(batches.c.id == batch_id)
    row = (await tx.conn.execute(query)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no batch {batch_id}", hint="rgrid list")
    (view,) = await batch_views(tx, [row])
    return {**view, "spec": row["spec"]}
