"""The one way to the database: short transactions that commit in one place.

``Database.transaction()`` commits when its block ends and rolls back when it raises. What a transaction wants to tell
the rest of the grid is collected on the way and written by one statement right before the commit: event rows and one
``NOTIFY`` on channel ``rgrid`` whose payload is the topics, separated by spaces.

Results of every statement carry ``jsonb`` columns as Python objects; ``jsonb`` parameters of named SQL are passed as
JSON text (``to_json``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic_core import from_json
from sqlalchemy import CursorResult, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from rgrid_api.db.named_sql import statements

STATEMENT_TIMEOUT_S: Final = 2.0
CHANNEL: Final = "rgrid"
_PAYLOAD_BYTES: Final = 7000
"""PostgreSQL refuses a payload of 8000 bytes."""
EVERYBODY: Final = "*"


def to_json(value: object) -> str:
    """JSON text for a ``jsonb`` parameter. PostgreSQL cannot store NUL; callers refuse it before."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the events table that is about to be written."""

    kind: str
    project_id: str
    batch_id: str | None
    execution_id: str | None
    data: dict[str, object]


class Tx:
    """One transaction. ``conn`` is for statements that no named SQL covers."""

    def __init__(self, conn: AsyncConnection, *, read_only: bool) -> None:
        self.conn = conn
        self._read_only = read_only
        self._topics: dict[str, None] = {}
        self._events: list[Event] = []

    async def run(self, name: str, **params: object) -> CursorResult[Any]:
        """Execute the named statement. Raises KeyError if no ``.sql`` file holds it."""
        return await self.conn.execute(statements()[name], params)

    def notify(self, *topics: str) -> None:
        """Wake whoever waits for one of these topics once this transaction has committed."""
        self._refuse_if_read_only()
        self._topics.update(dict.fromkeys(topics))

    def event(
        self,
        kind: str,
        *,
        project_id: str,
        batch_id: str | None = None,
        execution_id: str | None = None,
        data: dict[str, object] | None = None,
    ) -> None:
        """Write an event row right before the commit, and wake the project's followers."""
        self._refuse_if_read_only()
        self._events.append(Event(kind, project_id, batch_id, execution_id, data or {}))
        self._topics[f"e:{project_id}"] = None

    def _refuse_if_read_only(self) -> None:
        if self._read_only:
            raise RuntimeError("a read-only transaction tells nobody anything")

    def _payload(self) -> str:
        payload = " ".join(self._topics)
        return payload if len(payload.encode()) <= _PAYLOAD_BYTES else EVERYBODY

    async def flush(self) -> None:
        """Write what was collected; called by ``Database`` right before the commit."""
        if self._events:
            rows = self._events
            await self.run(
                "tell_with_events",
                channel=CHANNEL,
                payload=self._payload(),
                kinds=[row.kind for row in rows],
                projects=[row.project_id for row in rows],
                batches=[row.batch_id for row in rows],
                executions=[row.execution_id for row in rows],
                data=[to_json(row.data) for row in rows],
            )
        elif self._topics:
            await self.run("tell", channel=CHANNEL, payload=self._payload())


class Database:
    """Connections to PostgreSQL, and the only place that commits."""

    def __init__(self, url: str, *, pool_size: int = 5, max_overflow: int = 15, pool_timeout_s: float = 5.0) -> None:
        """``url``: ``postgresql+asyncpg://…``. Nothing is opened before the first transaction."""
        self._engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=pool_timeout_s,
            pool_use_lifo=True,
            json_deserializer=_as_it_is,
            json_serializer=to_json,
            connect_args={
                "timeout": 10,
                "command_timeout": 30,
                "server_settings": {
                    "application_name": "rgrid-api",
                    "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
                    "idle_in_transaction_session_timeout": "10000",
                    "jit": "off",
                    # A plan that was made and kept while a table was small must not scan it once it has grown.
                    "enable_seqscan": "off",
                    "timezone": "UTC",
                },
            },
        )
        event.listen(self._engine.sync_engine, "connect", _decode_json)
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._discards: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close every connection."""
        if self._discards:
            await asyncio.wait(self._discards)
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self, *, timeout_s: float | None = None) -> AsyncIterator[Tx]:
        """A transaction that commits at the end of the block and rolls back if the block raises.

        ``timeout_s``: statement timeout for this transaction instead of ``STATEMENT_TIMEOUT_S``.
        If the calling task is cancelled, whether in the block or while committing, the connection is thrown away:
        it never goes back to the pool half-way through something.
        """
        async with self._checkout(self._engine) as conn:
            if timeout_s is not None:
                await conn.exec_driver_sql(f"SET LOCAL statement_timeout = {int(timeout_s * 1000)}")
            tx = Tx(conn, read_only=False)
            yield tx
            await tx.flush()
            await conn.commit()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """Reads that need no transaction of their own: each statement sees what is committed when it starts."""
        async with self._checkout(self._autocommit) as conn:
            yield Tx(conn, read_only=True)

    @asynccontextmanager
    async def _checkout(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        conn = await engine.connect()
        try:
            yield conn
        except asyncio.CancelledError:
            await self._finish(_discard(conn))
            raise
        except BaseException:
            await self._finish(_give_back(conn))
            raise
        else:
            await self._finish(_give_back(conn))

    async def _finish(self, work: Any) -> None:
        """Run ``work`` to its end even if the caller is cancelled meanwhile."""
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._discards.add(task)
        task.add_done_callback(self._discards.discard)
        await asyncio.shield(task)


async def _give_back(conn: AsyncConnection) -> None:
    await conn.close()


async def _discard(conn: AsyncConnection) -> None:
    await conn.invalidate()
    await conn.close()


def _as_it_is(value: object) -> object:
    return value


def _decode_json(dbapi: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    """Decode ``jsonb`` once, in the driver, whether a statement is named SQL or SQLAlchemy Core."""
    adapted = cast("Any", dbapi)

    async def install(raw: Any) -> None:
        await raw.set_type_codec(
            "jsonb",
            schema="pg_catalog",
            format="binary",
            encoder=lambda text: b"\x01" + text.encode(),
            decoder=lambda data: from_json(data[1:]),
        )

    adapted.run_async(install)
