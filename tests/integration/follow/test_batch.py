"""Following a batch over a WebSocket."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select, update
from support.control_plane import ControlPlane, item
from support.rows import add_batch, add_runner, end, start
from support.sockets import following, serving

from rgrid_api.db.session import Database
from rgrid_api.db.tables import batches, executions
from rgrid_api.new_ids import new_id
from rgrid_shared.ids import Kind
from rgrid_shared.protocol import Manifest
from rgrid_shared.states import FINAL, Status

MANIFEST: Manifest = {"entries": [], "objects": [], "left_out": []}


async def end_batch(database: Database, batch_id: str) -> None:
    async with database.transaction() as tx:
        await tx.conn.execute(update(batches).where(batches.c.id == batch_id).values(ended_at=func.clock_timestamp()))
        tx.notify(f"b:{batch_id}")


def states(messages: list[dict[str, Any]]) -> dict[str, list[tuple[int, str]]]:
    """Versions and statuses of each execution, in the order in which they came."""
    found: dict[str, list[tuple[int, str]]] = {}
    for message in messages:
        if message["type"] == "executions":
            for view in message["executions"]:
                found.setdefault(view["id"], []).append((view["version"], view["status"]))
    return found


async def test_every_item_is_followed_to_its_end(plane: ControlPlane) -> None:
    """While many writers change items at once, each item's versions only rise, none comes twice, and all end."""
    database = plane.services.database
    async with database.transaction() as tx:
        runner_id = await add_runner(tx)
        batch_id, ids = await add_batch(tx, plane.project_id, 60)

    async def live(some: list[str]) -> None:
        source = random.Random(some[0])
        for execution_id in some:
            async with database.transaction() as tx:
                await start(tx, execution_id, runner_id)
            # Held open after its change, so that later ones become visible first.
            async with database.transaction() as tx:
                await end(tx, execution_id, manifest=MANIFEST)
                await tx.conn.execute(select(func.pg_sleep(source.random() * 0.3)))

    async with (
        serving(plane.app) as address,
        following(address, f"/v1/batches/{batch_id}/follow?outputs=1", plane.key) as follower,
    ):
        assert (await follower.until("batch"))["batch"]["counts"][Status.QUEUED] == 60
        await asyncio.gather(*(live(ids[first::12]) for first in range(12)))
        await end_batch(database, batch_id)
        messages = await follower.end()
    found = states(messages)
    assert set(found) == set(ids)
    for changes in found.values():
        versions = [version for version, _ in changes]
        assert versions == sorted(set(versions))
        assert changes[-1][1] == Status.SUCCEEDED
    outputs = [view["execution_id"] for message in messages for view in message.get("outputs", [])]
    assert sorted(outputs) == sorted(ids)
    last = [message for message in messages if message["type"] == "batch"][-1]["batch"]
    assert last["done"]
    assert last["counts"][Status.SUCCEEDED] == 60


async def test_a_batch_that_has_ended_is_told_whole(plane: ControlPlane) -> None:
    """A follower that comes late gets every item in pages, then the end at once."""
    database = plane.services.database
    async with database.transaction() as tx:
        batch_id, ids = await add_batch(tx, plane.project_id, 2500)
        await tx.conn.execute(update(executions).values(status=str(Status.CANCELLED), ended_at=func.clock_timestamp()))
    await end_batch(database, batch_id)
    async with (
        serving(plane.app) as address,
        following(address, f"/v1/batches/{batch_id}/follow", plane.key) as follower,
    ):
        messages = await follower.end()
    assert set(states(messages)) == set(ids)
    sizes = [len(message["executions"]) for message in messages if message["type"] == "executions"]
    assert max(sizes) <= 1000
    assert sum(sizes) == 2500


async def test_a_follower_that_comes_back_is_told_what_changed(plane: ControlPlane) -> None:
    """With ``after``, items that have not changed since are left out, but they count."""
    database = plane.services.database
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    async with database.transaction() as tx:
        runner_id = await add_runner(tx)
        batch_id, ids = await add_batch(tx, plane.project_id, 3)
        await tx.conn.execute(update(executions).values(updated_at=long_ago))
        await start(tx, ids[1], runner_id)
    after = (long_ago + timedelta(minutes=30)).isoformat().replace("+00:00", "Z")
    async with (
        serving(plane.app) as address,
        following(address, f"/v1/batches/{batch_id}/follow?after={after}", plane.key) as follower,
    ):
        told = await follower.until("executions")
        assert [view["id"] for view in told["executions"]] == [ids[1]]
        async with database.transaction() as tx:
            await end(tx, ids[1])
        counts = (await follower.until("batch"))["batch"]["counts"]
        while not counts[Status.SUCCEEDED]:
            counts = (await follower.until("batch"))["batch"]["counts"]
    assert counts[Status.QUEUED] == 2


async def test_a_retry_takes_the_place_of_its_item(plane: ControlPlane) -> None:
    """When an item is retried, its new execution is followed and counted, and the end waits for it."""
    database = plane.services.database
    async with database.transaction() as tx:
        runner_id = await add_runner(tx)
        batch_id, ids = await add_batch(tx, plane.project_id, 2)
        await start(tx, ids[0], runner_id)
        await end(tx, ids[0], status=Status.FAILED)
    async with (
        serving(plane.app) as address,
        following(address, f"/v1/batches/{batch_id}/follow", plane.key) as follower,
    ):
        await follower.until("executions")
        again = new_id(Kind.EXECUTION)
        async with database.transaction() as tx:
            await tx.conn.execute(update(executions).where(executions.c.id == ids[0]).values(latest=False))
            row = {"batch_id": batch_id, "project_id": plane.project_id, "item_index": 0, "item": item(0)}
            row |= {"id": again, "status": str(Status.QUEUED), "shape": "s", "priority": 0, "retry_of": ids[0]}
            await tx.conn.execute(insert(executions).values(row))
            tx.notify(f"b:{batch_id}")
        told = await follower.until("executions")
        assert [view["id"] for view in told["executions"]] == [again]
        for execution_id in (ids[1], again):
            async with database.transaction() as tx:
                await start(tx, execution_id, runner_id)
                await end(tx, execution_id)
        await end_batch(database, batch_id)
        messages = await follower.end()
    counts = [message for message in messages if message["type"] == "batch"][-1]["batch"]["counts"]
    assert counts[Status.SUCCEEDED] == 2
    assert sum(counts[status] for status in FINAL) == 2


async def test_a_batch_cancelled_before_it_was_complete_ends(plane: ControlPlane) -> None:
    """A batch that ended with fewer items than announced ends its followers too."""
    database = plane.services.database
    async with database.transaction() as tx:
        batch_id, ids = await add_batch(tx, plane.project_id, 2)
        await tx.conn.execute(update(executions).values(status=str(Status.CANCELLED), ended_at=func.clock_timestamp()))
        await tx.conn.execute(update(batches).values(total=5, sealed_at=None))
    await end_batch(database, batch_id)
    async with (
        serving(plane.app) as address,
        following(address, f"/v1/batches/{batch_id}/follow", plane.key) as follower,
    ):
        assert set(states(await follower.end())) == set(ids)
