"""The feed of what happened in a project: every event once, in one order, however many processes write.

The order is that of transaction ids, not of commits. A reader goes only as far as no transaction can add anything
before what it has read; reading ``id > last`` instead would lose what commits late.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rgrid_api.times import to_wire
from rgrid_shared.errors import InvalidRequest
from rgrid_shared.views import EventView

if TYPE_CHECKING:
    from rgrid_api.db.session import Database

SNAPSHOT: Final = "snapshot"
"""The kind of the marker that opens a feed from now: what is read after it is up to date at its cursor or later."""
PAGE: Final = 500
_CURSOR: Final = re.compile(r"(\d{1,19})-(\d{1,18})")


@dataclass(frozen=True, slots=True)
class EventCursor:
    """A place in the feed: after event ``id`` of transaction ``xid``. ``EventCursor()`` is before everything."""

    xid: int = 0
    id: int = 0

    def __str__(self) -> str:
        return f"{self.xid}-{self.id}"

    @classmethod
    def parse(cls, text: str) -> EventCursor:
        """The cursor of an ``EventView``. Raises ``InvalidRequest``."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"not a cursor of an event: {text[:80]!r}", hint="leave it out to begin")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class Filter:
    """Whose events: a project's, and of those a batch's, an execution's, some kinds' (None or empty: all)."""

    project_id: str
    batch_id: str | None = None
    execution_id: str | None = None
    kinds: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """Events after a cursor. ``more``: there are further ones; ``unsettled``: some that cannot be told yet."""

    events: list[EventView]
    next: EventCursor
    more: bool
    unsettled: bool


async def read_events(database: Database, which: Filter, after: EventCursor, *, limit: int = PAGE) -> Read:
    """The events after ``after``, at most ``limit``."""
    async with database.read() as tx:
        result = await tx.run(
            "events_after",
            project_id=which.project_id,
            batch_id=which.batch_id,
            execution_id=which.execution_id,
            kinds=list(which.kinds) or None,
            xid=str(after.xid),
            id=after.id,
            most=limit,
        )
        rows = result.all()
    events: list[EventView] = []
    cursor = after
    for row in rows:
        if not row.settled:
            return Read(events, cursor, more=False, unsettled=True)
        cursor = EventCursor(int(row.xid), row.id)
        events.append(
            {
                "cursor": str(cursor),
                "kind": row.kind,
                "at": to_wire(row.at),
                "batch_id": row.batch_id,
                "execution_id": row.execution_id,
                "data": row.data,
            }
        )
    return Read(events, cursor, more=len(rows) == limit, unsettled=False)


async def snapshot(database: Database) -> tuple[EventView, EventCursor]:
    """A marker of now, and the cursor of everything that is not yet settled at it."""
    async with database.read() as tx:
        row = (await tx.run("events_now")).one()
    cursor = EventCursor(int(row.xid), 0)
    return (
        {
            "cursor": str(cursor),
            "kind": SNAPSHOT,
            "at": to_wire(row.now),
            "batch_id": None,
            "execution_id": None,
            "data": {},
        },
        cursor,
    )
