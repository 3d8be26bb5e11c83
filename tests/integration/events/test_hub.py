"""Wake-ups between processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from rgrid_api.db.session import Database
from rgrid_api.events.hub import Hub

SOON_S = 5.0


@pytest.fixture
async def hub(database_url: str) -> AsyncIterator[Hub]:
    hub = Hub(database_url)
    await hub.start()
    yield hub
    await hub.stop()


async def notify(database: Database, *topics: str) -> None:
    async with database.transaction() as tx:
        tx.notify(*topics)


async def test_a_commit_wakes_those_who_wait_for_its_topics(hub: Hub, database: Database) -> None:
    """A notification wakes every subscriber of any of its topics, and nobody else."""
    async with hub.subscribe({"a", "b"}) as one, hub.subscribe({"b"}) as two, hub.subscribe({"c"}) as three:
        await notify(database, "x", "b")
        assert await one.wait(SOON_S)
        assert await two.wait(SOON_S)
        assert not await three.wait(0)


async def test_a_wake_up_before_the_wait_is_kept(hub: Hub, database: Database) -> None:
    """What is notified between subscribing and waiting ends the wait at once; a second wait is a new one."""
    async with hub.subscribe({"a"}) as early, hub.subscribe({"a"}) as late:
        await notify(database, "a")
        assert await early.wait(SOON_S)
        assert await late.wait(0)
        assert not await late.wait(0.01)


async def test_a_transaction_that_rolls_back_wakes_nobody(hub: Hub, database: Database) -> None:
    """Only what was committed is told."""
    async with hub.subscribe({"a"}) as subscription:
        with pytest.raises(KeyError):
            async with database.transaction() as tx:
                tx.notify("a")
                raise KeyError
        await notify(database, "b")
        assert not await subscription.wait(0.05)


async def test_more_topics_than_a_payload_holds_wake_everybody(hub: Hub, database: Database) -> None:
    """A transaction that touches thousands of things wakes all subscribers, whatever they wait for."""
    async with hub.subscribe({"z"}) as subscription:
        await notify(database, *(f"b:bat_{number:020}" for number in range(1000)))
        assert await subscription.wait(SOON_S)


async def test_a_lost_connection_comes_back_and_wakes_everybody(
    hub: Hub, database: Database, database_url: str
) -> None:
    """After the connection was cut, subscribers are woken once to look for themselves, and are told again."""
    async with hub.subscribe({"a"}) as subscription:
        connection = await asyncpg.connect(database_url)
        cut = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'rgrid-hub' AND datname = current_database()"
        )
        await connection.close()
        assert cut == 1
        assert await subscription.wait(SOON_S)
        assert hub.connected
        await notify(database, "a")
        assert await subscription.wait(SOON_S)


async def test_stopping_lets_every_waiter_go(hub: Hub) -> None:
    """A hub that stops ends the waits that are going on and those that come."""
    async with hub.subscribe({"a"}) as subscription:
        waiting = asyncio.create_task(subscription.wait(60))
        await asyncio.sleep(0)
        hub.begin_stop()
        async with asyncio.timeout(SOON_S):
            await waiting
            await subscription.wait(60)


async def test_a_subscription_that_ends_leaves_nothing(hub: Hub) -> None:
    """Topics of subscriptions that have ended are forgotten."""
    async with hub.subscribe({"a", "b"}), hub.subscribe({"a"}):
        assert len(hub._waiting) == 2
    assert not hub._waiting


async def test_a_database_that_is_not_there_is_an_error_at_start() -> None:
    """A hub that cannot connect says so when it starts."""
    hub = Hub("postgresql+asyncpg://nobody@127.0.0.1:9/nothing")
    with pytest.raises(OSError, match="9"):
        await hub.start()
    await hub.stop()
