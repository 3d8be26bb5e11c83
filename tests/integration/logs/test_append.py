"""Appending log chunks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from support.rows import add_batch, add_project, add_runner, end, report, start

from rgrid_api.db.session import Database
from rgrid_api.logs.chunks import Cursor
from rgrid_api.logs.reading import read_page
from rgrid_api.logs.service import append
from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.errors import InvalidRequest, TooLarge
from rgrid_shared.protocol import AttemptReport, ReportAnswer


@dataclass(frozen=True)
class Running:
    """An execution whose first attempt is live on ``runner_id``."""

    execution_id: str
    runner_id: str
    database: Database
    store: ObjectStore

    async def send(self, *reports: AttemptReport, max_bytes: int = 1000) -> list[ReportAnswer]:
        async with self.database.transaction() as tx:
            return await append(tx, self.runner_id, reports, max_bytes=max_bytes, relaxed=True)

    async def stored(self) -> bytes:
        page = await read_page(self.database, self.store, self.execution_id, Cursor())
        return b"".join(chunk.data for chunk in page.chunks)


@pytest.fixture
async def running(database: Database, store: ObjectStore) -> Running:
    async with database.transaction() as tx:
        project_id, runner_id = await add_project(tx), await add_runner(tx)
        _, [execution_id] = await add_batch(tx, project_id)
        await start(tx, execution_id, runner_id)
    return Running(execution_id, runner_id, database, store)


async def test_chunks_are_taken_in_order_and_repeats_change_nothing(running: Running) -> None:
    """Sending a chunk twice, whole or in part, stores it once; the answer names the next number."""
    one = report(running.execution_id, 1, [b"a", b"b"])
    assert [answer["next_seq"] for answer in await running.send(one)] == [3]
    assert [answer["next_seq"] for answer in await running.send(one)] == [3]
    overlapping = report(running.execution_id, 2, [b"b", b"c\xff"])
    assert [answer["next_seq"] for answer in await running.send(overlapping)] == [4]
    assert await running.stored() == b"abc\xff"


async def test_nothing_is_taken_after_a_hole(running: Running) -> None:
    """A chunk whose predecessor is lacking is refused, and the answer names the one that is lacking."""
    assert (await running.send(report(running.execution_id, 2, [b"b"])))[0]["next_seq"] == 1
    holed = report(running.execution_id, 1, [b"a", b"b", b"c"])
    del holed["chunks"][1]
    assert (await running.send(holed))[0]["next_seq"] == 2
    assert await running.stored() == b"a"


async def test_only_the_live_attempt_on_its_own_runner_is_heard(running: Running, database: Database) -> None:
    """Another runner, another attempt and an ended attempt are answered as stale, and their bytes are nowhere."""
    good = report(running.execution_id, 1, [b"x"])
    async with database.transaction() as tx:
        assert (await append(tx, "rnr_other", [good]))[0]["stale"]
    assert (await running.send(report(running.execution_id, 1, [b"x"], attempt=2)))[0]["stale"]
    async with database.transaction() as tx:
        await end(tx, running.execution_id)
    assert (await running.send(good))[0]["stale"]
    assert await running.stored() == b""


async def test_many_attempts_are_answered_in_their_order(running: Running, database: Database) -> None:
    """One request may speak of many attempts, some of them stale, one of them twice."""
    answers = await running.send(
        report("exe_unknown", 1, [b"?"]),
        report(running.execution_id, 1, [b"a"]),
        report(running.execution_id, 2, [b"b"]),
        report(running.execution_id, 3, []),
    )
    assert [(answer["stale"], answer["next_seq"]) for answer in answers[1:]] == [(False, 3)] * 3
    assert answers[0]["stale"]
    assert await running.stored() == b"ab"


async def test_repeats_that_race_store_each_chunk_once(running: Running) -> None:
    """Sixteen requests with overlapping chunks at once leave every byte once and in order."""
    datas = [bytes([65 + number]) for number in range(20)]
    await asyncio.gather(*(running.send(report(running.execution_id, 1, datas[: 5 + number])) for number in range(16)))
    assert await running.stored() == b"".join(datas)


async def test_more_than_twice_the_limit_is_refused(running: Running) -> None:
    """A runner that keeps no limit is stopped, and what it sent in that request is not stored."""
    with pytest.raises(TooLarge):
        await running.send(report(running.execution_id, 1, [b"x" * 1001]))
    assert await running.stored() == b""


@pytest.mark.parametrize(
    ("field", "value"), [("data", "no base 64!"), ("stream", "stdwhat"), ("at", "yesterday"), ("at", "2026-01-01")]
)
async def test_a_chunk_that_cannot_be_read_is_refused(running: Running, field: str, value: str) -> None:
    """Wrong base 64, an unknown stream and a time without a zone are invalid requests."""
    bad = report(running.execution_id, 1, [b"x"])
    bad["chunks"][0][field] = value  # type: ignore[literal-required]
    with pytest.raises(InvalidRequest):
        await running.send(bad)
