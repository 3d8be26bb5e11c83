"""Reading logs: by page, from a line, from a time; live and archived alike."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from support.rows import add_batch, add_project, add_runner, end, report, start

from rgrid_api.db.session import Database
from rgrid_api.db.tables import log_chunks
from rgrid_api.logs import tail as tails
from rgrid_api.logs.archiver import Archiver
from rgrid_api.logs.chunks import Chunk, Cursor
from rgrid_api.logs.reading import read_page
from rgrid_api.logs.service import append
from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.errors import NotFound, Unreachable
from rgrid_shared.states import Status

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Written:
    """An execution whose log is ``datas``, one chunk a second from ``START`` on."""

    database: Database
    store: ObjectStore
    project_id: str
    runner_id: str
    execution_id: str

    async def write(self, datas: list[bytes], *, attempt: int = 1, first: int = 1) -> None:
        for begin in range(0, len(datas), 200):
            part = datas[begin : begin + 200]
            chunks = report(self.execution_id, first + begin, part, attempt=attempt)
            for number, chunk in enumerate(chunks["chunks"], begin):
                chunk["at"] = (START + timedelta(seconds=number)).isoformat()
            async with self.database.transaction() as tx:
                [answer] = await append(tx, self.runner_id, [chunks])
            assert answer["next_seq"] == first + begin + len(part)

    async def end(self, *, attempt: int = 1, status: Status = Status.SUCCEEDED) -> None:
        async with self.database.transaction() as tx:
            await end(tx, self.execution_id, attempt=attempt, status=status)

    async def pages(self, after: Cursor, limit_bytes: int) -> AsyncIterator[list[Chunk]]:
        while True:
            page = await read_page(self.database, self.store, self.execution_id, after, limit_bytes=limit_bytes)
            if page.chunks:
                yield page.chunks
            if page.ended or not (page.chunks or page.more):
                return
            after = page.next

    async def everything(self, after: Cursor | None = None, limit_bytes: int = 300_000) -> list[Chunk]:
        return [chunk async for page in self.pages(after or Cursor(), limit_bytes) for chunk in page]

    async def tail(self, lines: int) -> bytes:
        chunks, _ = await tails.tail(self.database, self.store, self.execution_id, lines)
        return b"".join(chunk.data for chunk in chunks)

    async def rows(self) -> int:
        async with self.database.read() as tx:
            return int((await tx.conn.execute(select(func.count()).select_from(log_chunks))).scalar_one())

    async def archive(self) -> int:
        return await Archiver(self.database, self.store, after_s=0).run_once()


@pytest.fixture
async def written(database: Database, store: ObjectStore) -> Written:
    async with database.transaction() as tx:
        project_id, runner_id = await add_project(tx), await add_runner(tx)
        _, [execution_id] = await add_batch(tx, project_id)
        await start(tx, execution_id, runner_id)
    return Written(database, store, project_id, runner_id, execution_id)


async def test_pages_meet_without_gap_or_repeat(written: Written) -> None:
    """Whatever the size of a page, the pages together are the log, and each begins after the one before."""
    datas = [b"%d\n" % number * 50 for number in range(700)]
    await written.write(datas)
    await written.end()
    for limit in (1, 3_000, 10**6):
        found = await written.everything(limit_bytes=limit)
        assert [chunk.seq for chunk in found] == list(range(1, 701))
        assert b"".join(chunk.data for chunk in found) == b"".join(datas)
    assert [chunk.seq for chunk in await written.everything(Cursor(1, 698))] == [699, 700]


async def test_a_second_attempt_follows_the_first(written: Written) -> None:
    """The log of a retried execution is the first attempt's to its end, then the second's from its beginning."""
    await written.write([b"one "] * 3)
    await written.end(status=Status.PENDING)
    async with written.database.transaction() as tx:
        await start(tx, written.execution_id, written.runner_id, attempt=2)
    await written.write([b"two "] * 2, attempt=2)
    expected = [Cursor(1, 1), Cursor(1, 2), Cursor(1, 3), Cursor(2, 1), Cursor(2, 2)]
    for limit in (1, 10**6):
        assert [chunk.cursor for chunk in await written.everything(limit_bytes=limit)] == expected
    assert await written.archive() == 1
    for limit in (1, 10**6):
        assert [chunk.cursor for chunk in await written.everything(limit_bytes=limit)] == expected
    page = await read_page(written.database, written.store, written.execution_id, Cursor(2, 2))
    assert not page.ended


async def test_archived_logs_read_the_same(written: Written) -> None:
    """After archiving, the database holds no chunk and every page, tail and time reads as before."""
    source = random.Random(7)
    datas = [source.randbytes(source.randrange(1, 9_000)) for _ in range(700)]
    await written.write(datas)
    await written.end()
    before = await written.everything()
    moment = START + timedelta(seconds=400)
    tails_before = [await written.tail(lines) for lines in (0, 1, 17, 10**6)]
    since_before = await tails.since(written.database, written.store, written.execution_id, moment)
    assert await written.archive() == 1
    assert await written.rows() == 0
    assert await written.archive() == 0
    assert await written.everything() == before
    assert await written.everything(Cursor(1, 650), 1) == before[650:]
    assert [await written.tail(lines) for lines in (0, 1, 17, 10**6)] == tails_before
    assert await tails.since(written.database, written.store, written.execution_id, moment) == since_before
    assert since_before == Cursor(1, 400)
    assert b"".join(chunk.data for chunk in before) == b"".join(datas)


async def test_two_archivers_leave_one_archive(written: Written) -> None:
    """Archivers that take the same attempt leave one object in use, and the log is whole."""
    await written.write([b"line\n"] * 40)
    await written.end()
    before = await written.everything()
    one = Archiver(written.database, written.store, after_s=0)
    two = Archiver(written.database, written.store, after_s=0)
    async with written.database.read() as tx:
        due = (await tx.run("log_archivable", older_than_s=0, most=10)).all()
    assert await one.run_once() == 1
    await two._archive(written.project_id, due)
    assert await written.everything() == before
    assert len(await written.store.list("p/")) == 1


async def test_logs_survive_a_store_that_is_down(written: Written, database: Database) -> None:
    """If the store does not answer, archiving says so and every chunk is still there."""
    await written.write([b"line\n"] * 40)
    await written.end()
    nowhere = ObjectStore(endpoint="http://127.0.0.1:9", access_key="a", secret_key="b", bucket="nowhere")
    with pytest.raises(Unreachable):
        await Archiver(database, nowhere, after_s=0).run_once()
    assert await written.rows() == 40
    assert len(await written.everything()) == 40


async def test_what_a_crashed_archiver_left_is_deleted(written: Written) -> None:
    """Chunks whose archive is named already but that were not deleted are deleted by the next run."""
    await written.write([b"line\n"] * 40)
    await written.end()

    class Crashing(Archiver):
        async def _delete(self, named: object) -> None:
            if named:
                raise ConnectionError

    with pytest.raises(ConnectionError):
        await Crashing(written.database, written.store, after_s=0).run_once()
    assert await written.rows() == 40
    assert len(await written.everything()) == 40
    assert await written.archive() == 1
    assert await written.rows() == 0
    assert len(await written.everything()) == 40


async def test_only_what_ended_long_enough_ago_is_archived(written: Written) -> None:
    """A live attempt and one that has just ended stay in the database."""
    await written.write([b"x"])
    assert await Archiver(written.database, written.store, after_s=0).run_once() == 0
    await written.end()
    assert await Archiver(written.database, written.store, after_s=600).run_once() == 0
    assert await written.rows() == 1


@pytest.mark.parametrize(
    ("datas", "lines", "expected"),
    [
        ([b"a\nb\nc\n"], 2, b"b\nc\n"),
        ([b"a\nb\nc"], 2, b"b\nc"),
        ([b"a\n", b"b", b"b\n", b"c\n"], 2, b"bb\nc\n"),
        ([b"a\n", b"b\n"], 1, b"b\n"),
        ([b"a\n", b"b\n"], 2, b"a\nb\n"),
        ([b"a\n", b"b\n"], 9, b"a\nb\n"),
        ([b"a\n", b"b\n"], 0, b""),
        ([b"no newline"], 1, b"no newline"),
        ([b"\n\n\n"], 2, b"\n\n"),
        ([b"%d\n" % number for number in range(500)], 130, b"".join(b"%d\n" % n for n in range(370, 500))),
    ],
)
async def test_tail_is_the_last_lines(written: Written, datas: list[bytes], lines: int, expected: bytes) -> None:
    """``tail`` N gives what ``tail -n N`` gives, however the lines lie in chunks."""
    await written.write(datas)
    assert await written.tail(lines) == expected
    _, cursor = await tails.tail(written.database, written.store, written.execution_id, lines)
    assert cursor == Cursor(1, len(datas))


async def test_nothing_was_written(written: Written) -> None:
    """An execution without log has an empty page; it is the end only when the execution has ended."""
    page = await read_page(written.database, written.store, written.execution_id, Cursor())
    assert (page.chunks, page.ended) == ([], False)
    await written.end()
    page = await read_page(written.database, written.store, written.execution_id, Cursor())
    assert (page.chunks, page.ended) == ([], True)
    with pytest.raises(NotFound):
        await read_page(written.database, written.store, "exe_unknown", Cursor())
