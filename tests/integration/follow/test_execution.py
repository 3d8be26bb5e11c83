"""Following one execution over a WebSocket."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import delete
from support.control_plane import ControlPlane, control_plane, settings_for
from support.rows import add_batch, add_runner, end, report, start
from support.s3 import S3Server
from support.sockets import following, serving, unread
from websockets.exceptions import ConnectionClosedError

from rgrid_api.db.tables import attempts, executions
from rgrid_api.follow import socket
from rgrid_api.logs.archiver import Archiver
from rgrid_api.logs.service import append
from rgrid_shared.states import Status


@dataclass(frozen=True)
class Live:
    """An execution that runs, and the address of an API process that serves it."""

    plane: ControlPlane
    address: str
    execution_id: str
    runner_id: str

    def path(self, **query: str) -> str:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return f"/v1/executions/{self.execution_id}/follow?{text}"

    async def write(self, first: int, *datas: bytes, attempt: int = 1) -> None:
        async with self.plane.services.database.transaction() as tx:
            [answer] = await append(tx, self.runner_id, [report(self.execution_id, first, datas, attempt=attempt)])
        assert not answer["stale"]

    async def end(self, **options: Any) -> None:
        async with self.plane.services.database.transaction() as tx:
            await end(tx, self.execution_id, **options)


@pytest.fixture
async def live(plane: ControlPlane) -> AsyncIterator[Live]:
    async with plane.services.database.transaction() as tx:
        runner_id = await add_runner(tx)
        _, [execution_id] = await add_batch(tx, plane.project_id)
        await start(tx, execution_id, runner_id)
    async with serving(plane.app) as address:
        yield Live(plane, address, execution_id, runner_id)


def logs(messages: list[dict[str, Any]]) -> list[tuple[int, int, bytes]]:
    return [
        (message["attempt"], message["seq"], base64.b64decode(message["data"]))
        for message in messages
        if message["type"] == "log"
    ]


def statuses(messages: list[dict[str, Any]]) -> list[str]:
    return [message["executions"][0]["status"] for message in messages if message["type"] == "executions"]


async def test_everything_comes_once_and_the_end_is_last(live: Live) -> None:
    """Hello, every chunk in order, every state once, outputs with the last state, end; then the socket closes."""
    await live.write(1, b"before ")
    async with following(live.address, live.path(outputs="1"), live.plane.key) as follower:
        assert (await follower.next()) == {"type": "hello", "api": 1}
        await follower.until("executions")
        for seq in range(2, 30):
            await live.write(seq, b"%d " % seq)
            assert (await follower.until("log"))["seq"] == seq
        prefix = f"p/{live.plane.project_id}/x/{live.execution_id}/1/"
        await live.end(manifest={"entries": [], "objects": [{"key": prefix + "0", "size": 5}], "left_out": []})
        messages = await follower.end()
    assert [seq for _, seq, _ in logs(messages)] == list(range(1, 30))
    assert statuses(messages) == [Status.RUNNING, Status.SUCCEEDED]
    last = messages[-2]
    assert last["type"] == "executions"
    assert last["outputs"][0]["objects"][0]["size"] == 5
    assert prefix in last["outputs"][0]["objects"][0]["url"]


async def test_a_follower_that_comes_back_misses_nothing(live: Live) -> None:
    """Cut at any chunk and resumed after it, live or archived, the pieces together are the log."""
    await live.write(1, *(b"%d " % number for number in range(1, 8)))
    for archived in (False, True):
        for cut in range(8):
            found: list[tuple[int, int, bytes]] = []
            if cut:
                async with following(live.address, live.path(), live.plane.key) as follower:
                    await follower.until("log", seq=cut)
                    found += logs(follower.seen)
            async with following(live.address, live.path(after=f"1:{cut}"), live.plane.key) as follower:
                if archived:
                    await follower.end()
                elif cut < 7:
                    await follower.until("log", seq=7)
                found += logs(follower.seen)
            assert found == [(1, number, b"%d " % number) for number in range(1, 8)]
        if not archived:
            await live.end()
            assert await Archiver(live.plane.services.database, live.plane.services.store, after_s=0).run_once() == 1


async def test_a_retried_execution_goes_on_with_its_next_attempt(live: Live) -> None:
    """A lost attempt's log is followed by the next attempt's on the same socket; the end comes after the last."""
    database = live.plane.services.database
    async with following(live.address, live.path(), live.plane.key) as follower:
        await live.write(1, b"one")
        await follower.until("log", attempt=1)
        await live.end(status=Status.PENDING)
        async with database.transaction() as tx:
            await start(tx, live.execution_id, live.runner_id, attempt=2)
        await live.write(1, b"two", attempt=2)
        await follower.until("log", attempt=2)
        await live.end(attempt=2, status=Status.FAILED)
        messages = await follower.end()
    assert logs(messages) == [(1, 1, b"one"), (2, 1, b"two")]
    assert statuses(messages)[-1] == Status.FAILED


async def test_submitted_to_one_process_and_followed_on_another(live: Live, s3: S3Server, database_url: str) -> None:
    """A second API process on the same database and store shows what reaches the first, as it happens."""
    bucket = live.plane.services.store.bucket
    async with (
        control_plane(settings_for(database_url, s3, bucket)) as other,
        serving(other.app) as address,
        following(address, live.path(), live.plane.key) as follower,
    ):
        await follower.until("executions")
        for seq in range(1, 20):
            await live.write(seq, b"x")
            assert (await follower.until("log"))["seq"] == seq
        await live.end()
        assert statuses(await follower.end())[-1] == Status.SUCCEEDED


async def refused(address: str, path: str, key: str) -> tuple[str, int | None]:
    async with following(address, path, key) as follower:
        problem = await follower.until("problem")
        await follower.connection.wait_closed()
        return problem["code"], follower.connection.close_code


async def test_what_may_not_be_followed_is_said(live: Live) -> None:
    """Wrong key, unknown or somebody else's execution and a wrong cursor come as a problem; then 1008."""
    unknown = "/v1/executions/exe_00000000000000000000/follow"
    theirs = live.plane.other.headers["authorization"].removeprefix("Bearer ")
    key = live.plane.key
    assert await refused(live.address, live.path(), "rgr_" + "x" * 40) == ("not_authorised", 1008)
    assert await refused(live.address, unknown, key) == ("not_found", 1008)
    assert await refused(live.address, live.path(), theirs) == ("not_found", 1008)
    assert await refused(live.address, live.path(after="nonsense"), key) == ("invalid_request", 1008)


async def test_a_deleted_execution_ends_its_followers(live: Live) -> None:
    """A follower of something that is deleted is told so, and the socket closes."""
    database = live.plane.services.database
    async with following(live.address, live.path(), live.plane.key) as follower:
        await follower.until("executions")
        async with database.transaction() as tx:
            await tx.conn.execute(delete(attempts))
            await tx.conn.execute(delete(executions))
            tx.notify(f"l:{live.execution_id}")
        assert (await follower.until("problem"))["code"] == "not_found"


async def test_a_client_that_leaves_is_forgotten(live: Live) -> None:
    """When the client closes, nothing of its subscription is left."""
    hub = live.plane.services.hub
    async with following(live.address, live.path(), live.plane.key) as follower:
        await follower.until("executions")
        assert hub._waiting
    async with following(live.address, live.path(), live.plane.key) as follower:
        await follower.until("executions")
        assert all(len(waiting) == 1 for waiting in hub._waiting.values())


async def test_a_process_that_ends_sends_its_followers_elsewhere(live: Live) -> None:
    """When the server stops, followers are closed with 1012: come back, to another process."""
    async with following(live.address, live.path(), live.plane.key) as follower:
        await follower.until("executions")
        live.plane.services.hub.begin_stop()
        with pytest.raises(ConnectionClosedError):
            await follower.until("end")
        assert follower.connection.close_code == 1012


async def test_a_client_that_does_not_read_is_let_go(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that takes nothing for too long is closed with 1013, and holds nothing in the server."""
    monkeypatch.setattr(socket, "SEND_S", 0.2)
    block = b"x" * 60_000
    for first in range(1, 600, 50):
        await live.write(first, *[block] * 50)
    hub = live.plane.services.hub
    async with unread(live.address, live.path(), live.plane.key):
        async with asyncio.timeout(20):
            while not hub._waiting:
                await asyncio.sleep(0.01)
            while hub._waiting:
                await asyncio.sleep(0.01)
