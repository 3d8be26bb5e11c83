"""The events feed: nothing lost, nothing twice, in one order."""

from __future__ import annotations

import asyncio
import random

import pytest
from sqlalchemy import func, select
from support.control_plane import ControlPlane
from support.rows import add_batch
from support.sockets import following, serving

from rgrid_api.db.session import Database
from rgrid_api.events.feed import EventCursor, Filter, read_events
from rgrid_shared.errors import InvalidRequest

PROJECT = "prj_feed"
WRITERS, EACH = 16, 30


async def write(database: Database, writer: int) -> None:
    """Write events in transactions that stay open for a while, so that they commit out of order."""
    source = random.Random(writer)
    for number in range(EACH):
        async with database.transaction() as tx:
            tx.event("test", project_id=PROJECT, data={"writer": writer, "number": number})
            await tx.flush()
            tx._events.clear()
            await tx.conn.execute(select(func.pg_sleep(source.random() * 0.01)))


async def test_a_reader_beside_sixteen_writers_loses_nothing(database: Database) -> None:
    """A feed that is read while 16 writers commit out of order holds each event once, each writer's in order."""
    writers = asyncio.gather(*(write(database, number) for number in range(WRITERS)))
    found: list[tuple[object, object]] = []
    cursor = EventCursor()
    async with asyncio.timeout(60):
        while len(found) < WRITERS * EACH:
            read = await read_events(database, Filter(PROJECT), cursor, limit=50)
            found += [(event["data"]["writer"], event["data"]["number"]) for event in read.events]
            cursor = read.next
    await writers
    assert (await read_events(database, Filter(PROJECT), cursor)).events == []
    assert len(found) == len(set(found)) == WRITERS * EACH
    for writer in range(WRITERS):
        assert [number for who, number in found if who == writer] == list(range(EACH))


async def test_pages_filters_and_cursors(plane: ControlPlane) -> None:
    """The feed is paged by cursor and filtered by batch and kind; another project sees none of it."""
    database = plane.services.database
    async with database.transaction() as tx:
        batch_id, [execution_id] = await add_batch(tx, plane.project_id)
        for number in range(5):
            tx.event("a.b", project_id=plane.project_id, batch_id=batch_id, data={"n": number})
        tx.event("c.d", project_id=plane.project_id, batch_id=batch_id, execution_id=execution_id)
    first = (await plane.client.get("/v1/events", params={"kind": "a.b", "limit": 3})).json()
    rest = (await plane.client.get("/v1/events", params={"kind": "a.b", "after": first["next"]})).json()
    assert [event["data"]["n"] for event in first["events"] + rest["events"]] == list(range(5))
    again = (await plane.client.get("/v1/events", params={"after": rest["next"], "kind": "a.b"})).json()
    assert again == {"events": [], "next": rest["next"]}
    one = (await plane.client.get("/v1/events", params={"execution": execution_id})).json()["events"]
    assert [event["kind"] for event in one] == ["c.d"]
    assert (await plane.other.get("/v1/events")).json()["events"] == []
    assert (await plane.other.get("/v1/events", params={"batch": batch_id})).status_code == 404
    assert (await plane.client.get("/v1/events", params={"after": "x"})).status_code == 422


async def test_following_begins_with_a_marker_and_resumes_at_any_cursor(plane: ControlPlane) -> None:
    """From the marker on every event comes once; a follower that comes back with a cursor gets what it lacks."""
    database = plane.services.database

    async def write_one(number: int) -> None:
        async with database.transaction() as tx:
            tx.event("test", project_id=plane.project_id, data={"n": number})

    await write_one(0)
    async with serving(plane.app) as address:
        async with following(address, "/v1/events/follow", plane.key) as follower:
            marker = (await follower.until("event"))["event"]
            assert marker["kind"] == "snapshot"
            for number in (1, 2):
                await write_one(number)
            events = [(await follower.until("event"))["event"] for _ in range(2)]
            assert [event["data"]["n"] for event in events] == [1, 2]
        await write_one(3)
        async with following(address, f"/v1/events/follow?after={events[0]['cursor']}", plane.key) as follower:
            events = [(await follower.until("event"))["event"] for _ in range(2)]
            assert [event["data"]["n"] for event in events] == [2, 3]


@pytest.mark.parametrize("text", ["", "1", "a-b", "-1-2", "1-2-3", "9" * 30 + "-1"])
def test_a_cursor_is_checked(text: str) -> None:
    """What is not a cursor is refused before it reaches the database."""
    with pytest.raises(InvalidRequest):
        EventCursor.parse(text)
