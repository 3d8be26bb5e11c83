"""Logs over HTTP."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from support.control_plane import ControlPlane
from support.rows import add_batch, add_runner, end, report, start

from rgrid_api.logs.service import append


async def running(plane: ControlPlane) -> tuple[str, str]:
    """An execution that runs, and its runner."""
    async with plane.services.database.transaction() as tx:
        runner_id = await add_runner(tx)
        _, [execution_id] = await add_batch(tx, plane.project_id)
        await start(tx, execution_id, runner_id)
    return execution_id, runner_id


async def write(plane: ControlPlane, ids: tuple[str, str], first: int, *datas: bytes) -> None:
    async with plane.services.database.transaction() as tx:
        await append(tx, ids[1], [report(ids[0], first, datas)])


async def read(plane: ControlPlane, name: str, **query: Any) -> dict[str, Any]:
    answer = await plane.client.get(f"/v1/executions/{name}/logs", params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def text(page: dict[str, Any]) -> bytes:
    return b"".join(base64.b64decode(chunk["data"]) for chunk in page["chunks"])


async def test_pages_tails_and_times(plane: ControlPlane) -> None:
    """A page goes on where the last one ended; a tail is the last lines; ``since`` begins at a time."""
    ids = await running(plane)
    await write(plane, ids, 1, b"a\n", b"b\n", b"c\n")
    first = await read(plane, ids[0], limit_bytes=3)
    rest = await read(plane, ids[0][:20], after=first["next"])
    assert text(first) + text(rest) == b"a\nb\nc\n"
    assert not rest["ended"]
    assert text(await read(plane, ids[0], tail=2)) == b"b\nc\n"
    assert (await read(plane, "last", tail=0)) == {"chunks": [], "next": "1:3", "ended": False}
    assert text(await read(plane, ids[0], since="2026-01-01T00:00:00Z")) == b"a\nb\nc\n"
    late = await read(plane, ids[0], since="2199-01-01T00:00:00Z")
    assert (late["chunks"], late["next"]) == ([], "1:3")
    async with plane.services.database.transaction() as tx:
        await end(tx, ids[0])
    assert (await read(plane, ids[0], tail=1))["ended"]
    assert (await read(plane, ids[0], after="1:3", wait_s=30))["ended"]


async def test_a_waiting_request_is_answered_by_the_next_chunk(plane: ControlPlane) -> None:
    """With ``wait_s`` the answer comes with the first chunk, and with the end; without news it comes empty in time."""
    ids = await running(plane)
    assert (await read(plane, ids[0], wait_s=0.05))["chunks"] == []
    waiting = asyncio.create_task(read(plane, ids[0], wait_s=30))
    while not plane.services.hub._waiting:
        await asyncio.sleep(0)
    await write(plane, ids, 1, b"x")
    async with asyncio.timeout(5):
        assert text(await waiting) == b"x"
    waiting = asyncio.create_task(read(plane, ids[0], after="1:1", wait_s=30))
    while not plane.services.hub._waiting:
        await asyncio.sleep(0)
    plane.services.hub.begin_stop()
    async with asyncio.timeout(5):
        assert (await waiting)["next"] == "1:1"


@pytest.mark.parametrize(
    "query",
    [
        {"after": "1"},
        {"after": "1:2:3"},
        {"after": "-1:2"},
        {"since": "yesterday"},
        {"tail": -1},
        {"wait_s": 31},
        {"tail": 1, "after": "1:1"},
        {"tail": 1, "since": "2026-01-01T00:00:00Z"},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(plane: ControlPlane, query: dict[str, Any]) -> None:
    """Wrong cursors, times and contradictions are invalid requests, before the execution is looked up."""
    answer = await plane.client.get("/v1/executions/exe_00000000000000000000/logs", params=query)
    assert answer.status_code == 422


async def test_logs_of_another_project_do_not_exist(plane: ControlPlane) -> None:
    """Somebody else's execution and an unknown one are answered alike."""
    ids = await running(plane)
    theirs = await plane.other.get(f"/v1/executions/{ids[0]}/logs")
    nobodys = await plane.other.get("/v1/executions/exe_00000000000000000000/logs")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["code"] == nobodys.json()["code"]
