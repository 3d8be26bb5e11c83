"""From local files to a batch on a real control plane and a real store."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from support.control_plane import ControlPlane
from support.sockets import serving

from rgrid.client import Client
from rgrid.config import Server
from rgrid.submit import submission, upload
from rgrid.submit.hashing import SMALL
from rgrid.submit.items import Files, Range
from rgrid.submit.missing import missing
from rgrid.submit.plan import Plan, make_plan, prepare
from rgrid.submit.progress import Silent
from rgrid.submit.request import RunRequest
from rgrid_shared.errors import UsageError
from rgrid_shared.states import Status


@dataclass(frozen=True)
class Laptop:
    """A project directory here, and a client of a grid that listens on a real port."""

    folder: Path
    client: Client
    said: list[str]
    plane: ControlPlane

    def plan(self, *args: str, **more: Any) -> Plan:
        request = RunRequest(script="s.py", args=args, cwd=str(self.folder), runtime="python3.11", **more)
        return make_plan(request, self.folder.parent / "home", prepare("s.py", cwd=str(self.folder)))

    def send(self, plan: Plan) -> submission.Submitted:
        return submission.send(self.client, plan, say=self.said.append)

    async def rows(self, sql: str, values: Mapping[str, object] | None = None) -> Sequence[Any]:
        """What a query finds in the grid's database."""
        async with self.plane.services.database.read() as tx:
            return (await tx.conn.execute(text(sql), values or {})).all()

    async def do(self, work: Callable[[], Any]) -> Any:
        """Run blocking client code beside the server."""
        return await asyncio.to_thread(work)


@pytest.fixture
async def laptop(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Laptop]:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "s.py").write_text("print(1)\n")
    async with serving(plane.app) as address:
        with Client(Server(f"http://{address}", plane.key)) as client:
            yield Laptop(folder, client, [], plane)


async def stored(laptop: Laptop, digest: str) -> bytes:
    """The bytes that the grid has under a hash."""
    rows = await laptop.rows(
        "SELECT object_key, object_offset, size FROM blobs WHERE sha256 = :sha256", {"sha256": digest}
    )
    key, offset, size = rows[0]
    url = laptop.plane.services.store.presign_get(key)
    answer = await laptop.do(lambda: laptop.client.get_object(url, offset=offset, size=size).read())
    assert isinstance(answer, bytes)
    return answer


async def test_a_run_arrives_whole(laptop: Laptop) -> None:
    """Script and inputs of every size are stored under their hashes, and the batch refers to them."""
    contents = {"small": b"x", "empty": b"", "medium": os.urandom(SMALL + 1), "large": os.urandom(70 << 20)}
    for name, content in contents.items():
        (laptop.folder / name).write_bytes(content)
    submitted = await laptop.do(lambda: laptop.send(laptop.plan(*contents)))
    assert submitted.batch["total"] == 1
    assert submitted.batch["single"]
    detail = await laptop.do(lambda: laptop.client.batch(submitted.batch["id"]))
    assert {file["path"] for file in detail["spec"]["files"]} == {"s.py", *contents}
    for content in contents.values():
        if content:
            assert await stored(laptop, hashlib.sha256(content).hexdigest()) == content


async def test_nothing_is_sent_twice(laptop: Laptop) -> None:
    """What the grid has is not uploaded again, and the line about what travels says so."""
    (laptop.folder / "a.txt").write_text("hello")
    plan = laptop.plan("a.txt")
    await laptop.do(lambda: laptop.send(plan))
    assert laptop.said[0] == "2 files, 14 B"
    laptop.said.clear()
    assert await laptop.do(lambda: missing(laptop.client, plan.files)) == []
    await laptop.do(lambda: laptop.send(laptop.plan("a.txt")))
    assert laptop.said[0] == "2 files, 14 B, all stored already"


async def test_a_batch_of_many_pages_arrives_in_order(laptop: Laptop) -> None:
    """12,000 items go in pages; the batch starts with the last one, complete and in order."""
    submitted = await laptop.do(lambda: laptop.send(laptop.plan("--seed={}", items=Range("1-12000"))))
    assert submitted.batch["total"] == 12_000
    assert submitted.batch["sealed_at"] is not None
    rows = await laptop.rows(
        "SELECT item_index, item->>'name' FROM executions WHERE batch_id = :id ORDER BY item_index",
        {"id": submitted.batch["id"]},
    )
    assert [(row[0], row[1]) for row in rows] == [(index, str(index + 1)) for index in range(12_000)]


async def test_small_inputs_are_packed(laptop: Laptop) -> None:
    """Two thousand small files become one object in the store, each still found by its hash."""
    (laptop.folder / "in").mkdir()
    for number in range(2000):
        (laptop.folder / f"in/{number}.txt").write_text(f"input {number}\n")
    await laptop.do(lambda: laptop.send(laptop.plan(items=Files(("in/*.txt",)))))
    rows = await laptop.rows("SELECT count(*), count(DISTINCT object_key) FROM blobs")
    assert tuple(rows[0]) == (2001, 1)
    assert await stored(laptop, hashlib.sha256(b"input 1234\n").hexdigest()) == b"input 1234\n"


@pytest.mark.parametrize("size", [100, SMALL + 100, 65 << 20])
async def test_a_file_that_changes_stops_the_submission(laptop: Laptop, size: int) -> None:
    """A file that is not what was hashed is noticed while it is sent; no batch comes of it."""
    file = laptop.folder / "a.bin"
    file.write_bytes(b"a" * size)
    plan = laptop.plan("a.bin")
    plan.kept.clear()  # type: ignore[attr-defined]
    file.write_bytes(b"b" * size)
    os.utime(file, ns=(1, 1))
    with pytest.raises(UsageError, match="changed while it was sent"):
        await laptop.do(lambda: laptop.send(plan))
    assert (await laptop.rows("SELECT count(*) FROM batches"))[0][0] == 0


async def test_a_blob_that_is_lost_in_between_is_sent_again(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the grid lacks a blob at submission that it had before, it is uploaded and the submission repeated."""
    (laptop.folder / "a.txt").write_text("hello")
    plan = laptop.plan("a.txt")
    asked: list[int] = []

    def blind_at_first(client: Client, files: Any) -> Any:
        asked.append(len(files))
        return [] if len(asked) == 1 else missing(client, files)

    monkeypatch.setattr(submission, "missing", blind_at_first)
    submitted = await laptop.do(lambda: laptop.send(plan))
    assert submitted.batch["total"] == 1
    assert len(asked) == 2


async def test_progress_counts_every_byte_once(laptop: Laptop) -> None:
    """A bar ends at what it was told would come."""

    class Counter(Silent):
        total = 0

        def add(self, count: int) -> None:
            self.total += count

    for name, size in {"a": 10, "b": SMALL + 5, "c": 66 << 20}.items():
        (laptop.folder / name).write_bytes(os.urandom(size))
    plan = laptop.plan("a", "b", "c")
    counter = Counter()
    absent = await laptop.do(lambda: missing(laptop.client, plan.files))
    await laptop.do(lambda: upload.upload(laptop.client, plan, absent, counter))
    assert counter.total == sum(file.size for file in plan.files.values())


async def test_a_runtime_that_nobody_offers_is_said(laptop: Laptop) -> None:
    """What no runner can run is taken all the same, and the reason why it waits is said at once."""
    request = RunRequest(script="s.py", cwd=str(laptop.folder), runtime="python3.13")
    plan = make_plan(request, laptop.folder.parent / "home", prepare("s.py", cwd=str(laptop.folder)))
    submitted = await laptop.do(lambda: laptop.send(plan))
    assert submitted.batch["hold"]
    assert laptop.said[-1] == submitted.batch["hold"]
    assert submitted.batch["counts"][Status.SUCCEEDED] == 0


async def test_environment_values_are_sent_but_never_shown(laptop: Laptop) -> None:
    """Values go to the grid; neither the plan's text nor any answer holds them."""
    from rgrid.submit import dry_run

    plan = laptop.plan(env={"TOKEN": "hush-hush"})
    submitted = await laptop.do(lambda: laptop.send(plan))
    detail = await laptop.do(lambda: laptop.client.batch(submitted.batch["id"]))
    assert detail["spec"]["env_names"] == ["TOKEN"]
    shown = f"{detail} {dry_run.document(plan)} {dry_run.lines(plan)} {plan.request!r}"
    assert "hush-hush" not in shown
