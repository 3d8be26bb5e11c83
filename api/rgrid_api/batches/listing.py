"""Lists of batches: filtered, newest first, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, exists, or_

from rgrid_api import cursors
from rgrid_api.batches.views import BATCH_SELECT, batch_views
from rgrid_api.db.session import Tx
from rgrid_api.db.tables import batches, executions
from rgrid_shared.errors import InvalidRequest
from rgrid_shared.states import Status
from rgrid_shared.views import BatchPage

MAX_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """Which batches. ``statuses``: some item stands in one of them. ``script``: the name, or its last part."""

    statuses: frozenset[Status]
    script: str | None
    name: str | None
    metadata: dict[str, str]
    since: datetime | None
    until: datetime | None


async def batch_page(tx: Tx, project_id: str, wanted: Filter, *, limit: int, cursor: str | None) -> BatchPage:
    """Up to ``limit`` complete batches, newest first, and the cursor of those that follow."""
    query = BATCH_SELECT.where(batches.c.project_id == project_id, *_conditions(wanted))
    if cursor is not None:
        query = query.where(batches.c.id < cursors.decode(cursor, (str,))[0])
    rows = (await tx.conn.execute(query.order_by(batches.c.id.desc()).limit(limit + 1))).mappings().all()
    shown = rows[:limit]
    return {
        "batches": await batch_views(tx, shown),
        "next": cursors.encode(shown[-1]["id"]) if len(rows) > limit else None,
    }


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [batches.c.sealed_at.is_not(None)]
    if wanted.statuses:
        found.append(
            exists().where(
                executions.c.batch_id == batches.c.id,
                executions.c.latest,
                executions.c.status.in_(sorted(wanted.statuses)),
            )
        )
    if wanted.script is not None:
        found.append(
            or_(batches.c.script == wanted.script, batches.c.script.endswith(f"/{wanted.script}", autoescape=True))
        )
    if wanted.name is not None:
        found.append(batches.c.name == wanted.name)
    if wanted.metadata:
        found.append(batches.c.metadata.contains(wanted.metadata))
    if wanted.since is not None:
        found.append(batches.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(batches.c.created_at < wanted.until)
    return found


def parse_statuses(texts: Sequence[str]) -> frozenset[Status]:
    """Statuses from query parameters, several in one separated by commas. Raises InvalidRequest for an unknown one."""
    found = set()
    for text in ",".join(texts).split(","):
        if text:
            try:
                found.add(Status(text))
            except ValueError:
                raise InvalidRequest(
                    f"query parameter status is not known: {text[:40]!r}", hint=f"one of {', '.join(Status)}"
                ) from None
    return frozenset(found)


def parse_metadata(texts: Sequence[str]) -> dict[str, str]:
    """Pairs from query parameters of the form ``key=value``. Raises InvalidRequest."""
    found = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not mark or not key:
            raise InvalidRequest(f"query parameter metadata is not of the form key=value: {text[:80]!r}")
        found[key] = value
    return found
