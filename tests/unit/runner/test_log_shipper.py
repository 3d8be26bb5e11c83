"""Logs reach the API once, in order, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rgrid_runner.backends.base import Chunk
from rgrid_runner.log_shipper import BUFFER_BYTES, POST_BYTES, Feed, LogShipper
from rgrid_runner.outcome import Stale
from rgrid_shared.protocol import AttemptReport, ReportReply
from rgrid_shared.states import Phase, Stream

AT = "2026-01-02T03:04:05.000006Z"


class Api:
    """Takes contiguous chunks as the API does. ``forgets``: before these reports it loses its last chunks."""

    def __init__(self, forgets: dict[int, int] | None = None) -> None:
        self.kept: dict[str, list[tuple[str, bytes]]] = {}
        self.reports: list[list[AttemptReport]] = []
        self.stale: set[str] = set()
        self._forgets = forgets or {}

    async def report(self, reports: list[AttemptReport]) -> ReportReply:
        await asyncio.sleep(0)
        self.reports.append(reports)
        answers: list[Any] = []
        for each in reports:
            kept = self.kept.setdefault(each["execution_id"], [])
            del kept[max(0, len(kept) - self._forgets.get(len(self.reports), 0)) :]
            for chunk in each["chunks"]:
                if chunk["seq"] == len(kept) + 1:
                    kept.append((chunk["stream"], base64.b64decode(chunk["data"])))
            answers.append(
                {
                    "execution_id": each["execution_id"],
                    "attempt": each["attempt"],
                    "next_seq": len(kept) + 1,
                    "stale": each["execution_id"] in self.stale,
                }
            )
        return {"answers": answers}


class Spool:
    """A script's chunks, and how many were read from it."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks
        self.read = 0

    async def from_(self, after: int) -> AsyncIterator[Chunk]:
        for seq, data in enumerate(self._chunks[after:], start=after + 1):
            self.read = max(self.read, seq)
            yield Chunk(seq, Stream.STDOUT, 1_700_000_000_000_000, data)


def shipper_for(api: Api) -> tuple[LogShipper, list[tuple[str, int]]]:
    stale: list[tuple[str, int]] = []
    return LogShipper(api, lambda *ref: stale.append(ref)), stale  # type: ignore[arg-type]


async def ship(api: Api, notes: list[str], chunks: list[bytes], *, acked: int | None = 0) -> Feed:
    """Ship everything and return when the API has it."""
    shipper, _ = shipper_for(api)
    feed = shipper.feed("exe", 1, [(AT, note) for note in notes], acked=acked)
    feed.script_started(Spool(chunks).from_, AT)
    feed.script_ended(len(chunks))
    running = asyncio.create_task(shipper.run())
    async with asyncio.timeout(10):
        await feed.drained()
    running.cancel()
    feed.close()
    return feed


@settings(max_examples=50, deadline=None)
@given(
    notes=st.lists(st.text(max_size=5), max_size=3),
    chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=12),
    forgets=st.dictionaries(st.integers(2, 6), st.integers(1, 9), max_size=3),
)
def test_every_chunk_arrives_once_and_in_order(notes: list[str], chunks: list[bytes], forgets: dict[int, int]) -> None:
    """Also when the API loses what it had acknowledged."""
    api = Api(forgets)
    asyncio.run(ship(api, notes, chunks))
    expected = [("system", note.encode()) for note in notes] + [("stdout", data) for data in chunks]
    assert api.kept.get("exe", []) == expected[: len(api.kept.get("exe", []))]
    if not forgets:
        assert api.kept.get("exe", []) == expected


async def test_a_successor_goes_on_where_the_api_stands() -> None:
    """What is taken over is first asked for, then shipped from there."""
    api = Api()
    await ship(api, ["n"], [b"1", b"2"])
    await ship(api, ["n"], [b"1", b"2", b"3"], acked=None)
    assert api.kept["exe"] == [("system", b"n"), ("stdout", b"1"), ("stdout", b"2"), ("stdout", b"3")]


async def test_what_a_finish_finds_missing_is_shipped_again() -> None:
    """``lacks`` rewinds to any number."""
    api = Api()
    shipper, _ = shipper_for(api)
    feed = shipper.feed("exe", 1, [(AT, "n")], acked=0)
    feed.script_started(Spool([b"1", b"2"]).from_, AT)
    feed.script_ended(2)
    running = asyncio.create_task(shipper.run())
    await feed.drained()
    del api.kept["exe"][1:]
    feed.lacks(2)
    async with asyncio.timeout(10):
        await feed.drained()
    assert [data for _, data in api.kept["exe"]] == [b"n", b"1", b"2"]
    running.cancel()
    feed.close()


async def test_nothing_is_read_faster_than_it_is_shipped() -> None:
    """A spool of any length is held in memory by a megabyte or two at most, and no report is much larger."""
    api = Api()
    shipper, _ = shipper_for(api)
    spool = Spool([bytes(60_000)] * 100)
    feed = shipper.feed("exe", 1, [], acked=0)
    feed.script_started(spool.from_, AT)
    feed.script_ended(100)
    while spool.read < 10:
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert spool.read <= BUFFER_BYTES // 60_000 + 2
    running = asyncio.create_task(shipper.run())
    async with asyncio.timeout(10):
        await feed.drained()
    assert len(api.kept["exe"]) == 100
    assert all(sum(len(c["data"]) for c in reports[0]["chunks"]) <= POST_BYTES for reports in api.reports)
    running.cancel()
    feed.close()


async def test_several_attempts_share_a_report() -> None:
    """What waits goes together; a loud one does not keep the others from speaking."""
    api = Api()
    shipper, _ = shipper_for(api)
    feeds = []
    for name, chunks in (("loud", [bytes(60_000)] * 40), ("quiet", [b"q"])):
        feed = shipper.feed(name, 1, [], acked=0)
        feed.script_started(Spool(chunks).from_, AT)
        feed.script_ended(len(chunks))
        feeds.append(feed)
    for _ in range(100):
        await asyncio.sleep(0)
    await shipper.run_once()
    assert api.kept["quiet"] == [("stdout", b"q")]
    assert 0 < len(api.kept["loud"]) < 40
    for feed in feeds:
        feed.close()


async def test_a_stale_attempt_is_dropped_and_said() -> None:
    """The API's no ends the shipping and is passed on."""
    api = Api()
    api.stale.add("exe")
    shipper, stale = shipper_for(api)
    feed = shipper.feed("exe", 1, [], acked=0)
    feed.script_started(Spool([b"1"]).from_, AT)
    feed.script_ended(1)
    running = asyncio.create_task(shipper.run())
    with pytest.raises(Stale):
        await feed.drained()
    assert stale == [("exe", 1)]
    running.cancel()
    feed.close()


async def test_a_phase_rides_with_the_first_output() -> None:
    """A script that prints at once costs one report, not two."""
    api = Api()
    await ship(api, [], [b"1"])
    assert [(each["phase"], len(each["chunks"])) for reports in api.reports for each in reports] == [(Phase.RUNNING, 1)]


async def test_a_line_written_in_two_pieces_is_one_report() -> None:
    """An unbuffered ``print`` writes its text and then the line's end: the second does not wait for a round trip."""
    api = Api()
    written = asyncio.Event()

    async def in_pieces(after: int) -> AsyncIterator[Chunk]:
        yield Chunk(1, Stream.STDOUT, 1_700_000_000_000_000, b"line")
        await written.wait()
        yield Chunk(2, Stream.STDOUT, 1_700_000_000_000_000, b"\n")

    shipper, _ = shipper_for(api)
    feed = shipper.feed("exe", 1, [], acked=0)
    feed.script_started(in_pieces, AT)
    feed.script_ended(2)
    running = asyncio.create_task(shipper.run())
    asyncio.get_running_loop().call_later(0.0005, written.set)
    async with asyncio.timeout(10):
        await feed.drained()
    running.cancel()
    feed.close()
    assert len(api.reports) == 1
