"""Bring the schema up to date when a process starts: forward only, one process at a time.

Almost every start finds the schema as it should be; that is seen by one query, without loading Alembic.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from asyncpg.exceptions import CannotConnectNowError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from rgrid_shared.errors import Internal

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD: Final = "0003"
"""The newest migration; a test compares it with the files."""

PATIENCE_S: Final = 30.0
RETRY_S: Final = 0.03

_STARTING_UP: Final = CannotConnectNowError.sqlstate

_LOCK: Final = 0x72677269_64000001
"""Any number that no other program takes: "rgrid" and 1."""


async def migrate(url: str) -> bool:
    """Bring the schema at ``url`` (``postgresql+asyncpg://…``) to ``HEAD``; True if anything had to be done.

    Waits up to ``PATIENCE_S`` seconds for a database that is still starting, as it is beside a process that was
    started at the same time. Any number of processes may call this at once. Raises Internal if the schema is of a
    newer rgrid.
    """
    engine = create_async_engine(url, poolclass=NullPool, connect_args={"timeout": 10})
    try:
        async with aclosing(await _first_connection(engine)) as conn:
            if await _version(conn) == HEAD:
                return False
        async with engine.begin() as conn:
            await conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if await _version(conn) == HEAD:
                return False
            await conn.run_sync(_upgrade)
            return True
    finally:
        await engine.dispose()


async def _first_connection(engine: AsyncEngine) -> AsyncConnection:
    """A connection that the caller closes. Raises what the last try raised."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await engine.connect()
        except (OSError, CannotConnectNowError, DBAPIError) as error:
            starting = isinstance(error, OSError) or getattr(error, "sqlstate", None) == _STARTING_UP
            cause = getattr(error, "orig", None)
            if not (starting or getattr(cause, "sqlstate", None) == _STARTING_UP) or time.monotonic() > deadline:
                raise
        await asyncio.sleep(RETRY_S)


async def _version(conn: AsyncConnection) -> str | None:
    """The migration that the schema stands at, None for an empty database."""
    if (await conn.execute(text("SELECT to_regclass('alembic_version')"))).scalar_one() is None:
        return None
    found = (await conn.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", "rgrid_api:db/migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Internal(
            f"the database cannot be brought to schema {HEAD}: {error}",
            hint="it was written by a newer rgrid-api; install that version",
        ) from error
