"""The schema: what migrations make is what ``tables.py`` says, by any number of processes at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from support.postgres import Server

from rgrid_api.db.migrate import HEAD, migrate
from rgrid_api.db.tables import metadata
from rgrid_shared.errors import Internal

SHAPE = """
SELECT 'column', c.relname, a.attname, concat_ws(
    ' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
    pg_get_expr(d.adbin, d.adrelid)
)
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
UNION ALL
SELECT 'index', tablename, indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'alembic_version'
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass
ORDER BY 1, 2, 3
"""


@pytest.fixture
async def empty_url(postgres: Server) -> AsyncIterator[str]:
    """A database without any schema."""
    name = f"t_{secrets.token_hex(6)}"
    await postgres.run(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    await postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


def _sqlalchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://")


async def _shape(url: str) -> list[tuple[str, ...]]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num text)")
        return [tuple(row) for row in await connection.fetch(SHAPE)]
    finally:
        await connection.close()


async def test_migrations_make_the_tables(database_url: str, empty_url: str) -> None:
    """A migrated database and one made of ``tables.py`` have the same columns, indexes and constraints."""
    engine = create_async_engine(_sqlalchemy(empty_url))
    async with engine.begin() as conn:
        await conn.run_sync(metadata.create_all)
    await engine.dispose()
    assert await _shape(database_url) == await _shape(empty_url)


async def test_many_processes_migrate_once(empty_url: str) -> None:
    """Of any number of processes that start at once exactly one does the work; later starts find it done."""
    did = await asyncio.gather(*(migrate(_sqlalchemy(empty_url)) for _ in range(6)))
    assert sorted(did) == [False] * 5 + [True]
    assert await migrate(_sqlalchemy(empty_url)) is False


async def test_a_newer_schema_is_refused(empty_url: str) -> None:
    """An older API says clearly that it cannot work on a newer schema, and touches nothing."""
    connection = await asyncpg.connect(empty_url)
    await connection.execute("CREATE TABLE alembic_version (version_num varchar(32))")
    await connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    with pytest.raises(Internal, match="schema"):
        await migrate(_sqlalchemy(empty_url))
    await connection.close()


def test_head_is_the_newest_file() -> None:
    """The constant that lets a start skip Alembic names the newest migration."""
    config = Config()
    config.set_main_option("script_location", "rgrid_api:db/migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD
