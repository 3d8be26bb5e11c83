"""Tells PostgreSQL's planner of a large batch at once.

Autovacuum would within a minute. Until then every statement about the batch is planned for a handful of rows, which
costs a follower of 100,000 items half a minute (measured); and plans that connections keep are made anew after it.
"""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from rgrid_api.db.session import Database

log = logging.getLogger(__name__)

LEAST: Final = 2_000
SHARE: Final = 10
"""A batch counts as large if it has ``LEAST`` items and is this part of what the planner knows of."""
TIMEOUT_S: Final = 30.0


async def refresh(database: Database, added: int) -> None:
    """Analyze the executions if ``added`` new ones are many. A failure is logged; autovacuum makes it good."""
    if added < LEAST:
        return
    try:
        async with database.read() as tx:
            known = (await tx.run("executions_analyzed")).scalar_one()
        if added * SHARE >= known:
            async with database.transaction(timeout_s=TIMEOUT_S) as tx:
                await tx.run("executions_analyze")
    except (SQLAlchemyError, OSError) as error:
        log.warning("executions were not analyzed after a batch of %d: %s", added, error)
