"""Transactions: what commits, what is told, and what a cancelled caller leaves behind."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy import text

from rgrid_api.db.session import CHANNEL, Database


async def _project(tx_database: Database, name: str) -> None:
    async with tx_database.transaction() as tx:
        await tx.conn.execute(text("INSERT INTO projects (id, name) VALUES (:name, :name)"), {"name": name})


async def _names(database: Database) -> list[str]:
    async with database.read() as tx:
        return list((await tx.conn.execute(text("SELECT name FROM projects ORDER BY name"))).scalars())


async def test_a_block_that_ends_commits_and_one_that_raises_does_not(database: Database) -> None:
    """A transaction is all or nothing."""
    await _project(database, "kept")
    with pytest.raises(LookupError):
        async with database.transaction() as tx:
            await tx.conn.execute(text("INSERT INTO projects (id, name) VALUES ('x', 'lost')"))
            raise LookupError
    assert await _names(database) == ["kept"]


async def test_one_notification_carries_every_topic_of_a_transaction(database: Database, database_url: str) -> None:
    """Followers are told once per transaction, after its commit, with events written in the same commit."""
    heard: list[str] = []
    told = asyncio.Event()
    listener = await asyncpg.connect(database_url)

    def hear(*args: object) -> None:
        heard.append(str(args[3]))
        told.set()

    await listener.add_listener(CHANNEL, hear)
    async with database.transaction() as tx:
        tx.notify("q", "b:bat_1")
        tx.notify("q")
        tx.event("batch.created", project_id="prj_1", batch_id="bat_1", data={"items": 3, "name": "é"})
        tx.event("batch.created", project_id="prj_1", batch_id="bat_2")
    await asyncio.wait_for(told.wait(), 5)
    assert heard == ["q b:bat_1 e:prj_1"]
    rows = await listener.fetch("SELECT batch_id, data->>'name' AS name FROM events ORDER BY id")
    assert [tuple(row) for row in rows] == [("bat_1", "é"), ("bat_2", None)]
    await listener.close()


async def test_too_many_topics_wake_everybody(database: Database, database_url: str) -> None:
    """A payload that PostgreSQL would refuse becomes ``*``."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener(CHANNEL, lambda *args: heard.put_nowait(args[3]))
    async with database.transaction() as tx:
        tx.notify(*(f"b:bat_{n:020}" for n in range(1000)))
    assert await asyncio.wait_for(heard.get(), 5) == "*"
    await listener.close()


async def test_a_read_tells_nobody(database: Database) -> None:
    """Reads cannot write events or notifications."""
    async with database.read() as tx:
        with pytest.raises(RuntimeError):
            tx.notify("q")
        with pytest.raises(RuntimeError):
            tx.event("x", project_id="p")


async def test_statements_are_bounded(database: Database) -> None:
    """No statement runs longer than its transaction allows."""
    with pytest.raises(Exception, match="statement timeout"):
        async with database.transaction(timeout_s=0.05) as tx:
            await tx.conn.execute(text("SELECT pg_sleep(5)"))


async def test_a_cancelled_caller_leaves_no_dirty_connection(database: Database) -> None:
    """After any number of callers cancelled half-way, every pooled connection is clean and nothing was committed."""

    async def half_way(started: asyncio.Event) -> None:
        async with database.transaction() as tx:
            await tx.conn.execute(text("INSERT INTO projects (id, name) VALUES ('h', 'half')"))
            started.set()
            await tx.conn.execute(text("SELECT pg_sleep(1)"))

    for _ in range(8):
        started = asyncio.Event()
        task = asyncio.create_task(half_way(started))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await _names(database) == []
    for number in range(8):
        await _project(database, f"p{number}")
    assert len(await _names(database)) == 8


async def test_jsonb_arrives_decoded(database: Database) -> None:
    """Named SQL and Core statements both give Python objects for ``jsonb``."""
    async with database.transaction() as tx:
        tx.event("k", project_id="p", data={"a": [1, "ü"]})
    async with database.read() as tx:
        assert (await tx.conn.execute(text("SELECT data FROM events"))).scalar_one() == {"a": [1, "ü"]}
