"""The executions of a batch: filtered, by index, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import ColumnElement, or_, tuple_

from rgrid_api import cursors
from rgrid_api.batches.selectors import parse_indexes
from rgrid_api.db.session import Tx
from rgrid_api.db.tables import executions
from rgrid_api.executions.views import EXECUTION_SELECT, execution_view
from rgrid_shared.states import FINAL, Status
from rgrid_shared.views import ExecutionPage

MAX_PAGE: Final = 1_000
UNSUCCESSFUL: Final = FINAL - {Status.SUCCEEDED}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which executions. ``statuses``: None = all. ``ranges``: item indexes, ends included, None = all."""

    statuses: frozenset[Status] | None
    ranges: tuple[tuple[int, int], ...] | None
    replaced: bool

    @classmethod
    def of(cls, *, statuses: frozenset[Status], index: str | None, failed: bool, replaced: bool) -> Self:
        """The filter that query parameters describe; ``failed`` narrows ``statuses``. Raises InvalidRequest."""
        wanted: frozenset[Status] | None = statuses or None
        if failed:
            wanted = UNSUCCESSFUL & statuses if statuses else UNSUCCESSFUL
        return cls(wanted, None if index is None else tuple(parse_indexes(index)), replaced)

    def conditions(self) -> list[ColumnElement[bool]]:
        """This filter in SQL."""
        found: list[ColumnElement[bool]] = []
        if not self.replaced:
            found.append(executions.c.latest)
        if self.statuses is not None:
            found.append(executions.c.status.in_(sorted(self.statuses)))
        if self.ranges is not None:
            found.append(or_(*(executions.c.item_index.between(low, high) for low, high in self.ranges)))
        return found


async def execution_page(tx: Tx, batch_id: str, wanted: Filter, *, limit: int, cursor: str | None) -> ExecutionPage:
    """Up to ``limit`` executions by index (the oldest try first), and the cursor of those that follow."""
    query = EXECUTION_SELECT.where(executions.c.batch_id == batch_id, *wanted.conditions())
    if cursor is not None:
        after = tuple_(*cursors.decode(cursor, (int, str)))
        query = query.where(tuple_(executions.c.item_index, executions.c.id) > after)
    query = query.order_by(executions.c.item_index, executions.c.id).limit(limit + 1)
    rows = (await tx.conn.execute(query)).mappings().all()
    shown = rows[:limit]
    return {
        "executions": [execution_view(row) for row in shown],
        "next": cursors.encode(shown[-1]["item_index"], shown[-1]["id"]) if len(rows) > limit else None,
    }
