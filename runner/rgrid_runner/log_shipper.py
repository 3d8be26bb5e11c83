"""Logs and phases from all attempts of a runner to the API, one report in flight at a time.

An idle line sends at once; half a line has ``LINE_S`` for its other half, because an unbuffered ``print`` writes the
line's end on its own and that should not wait for a whole round trip. What comes while a report is in flight goes with
the next one. News of a phase alone wait ``RIDE_S`` for the first output to ride along. Nothing is read from a spool
faster than it can be shipped, and what the API does not acknowledge is sent again: the spool on disk is the buffer.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from rgrid_runner.backends.base import Chunk
from rgrid_runner.control import Control
from rgrid_runner.host import utc_now, wire_time, wire_time_us
from rgrid_runner.outcome import Stale
from rgrid_shared.errors import RgridError
from rgrid_shared.protocol import AttemptReport, LogChunk, ReportAnswer
from rgrid_shared.states import Phase, Stream

log: Final = logging.getLogger("rgrid.runner")
POST_BYTES: Final = 1024 * 1024
BUFFER_BYTES: Final = 1024 * 1024
SHARE_BYTES: Final = 64 * 1024
RIDE_S: Final = 0.05
LINE_S: Final = 0.001
_AGAIN_S: Final = 1.0

ReadFrom = Callable[[int], AsyncIterator[Chunk]]


class Feed:
    """One attempt's way to the API. Chunk *n* of the script is chunk ``len(notes) + n`` of the attempt.

    ``acked``: the API has everything up to this number; None: not known yet, it has to be asked.
    """

    def __init__(
        self, shipper: LogShipper, execution_id: str, attempt: int, notes: list[tuple[str, str]], *, acked: int | None
    ) -> None:
        self.execution_id = execution_id
        self.attempt = attempt
        self.acked = acked
        self.stale = False
        self.last: int | None = None
        self._shipper = shipper
        self._notes = notes
        self._phase = Phase.PREPARING
        self._started_at: str | None = None
        self._news = acked is None
        self._read_from: ReadFrom | None = None
        self._buffer: deque[LogChunk] = deque()
        self._buffered = 0
        self._open_line = False
        self._moved = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        if acked is not None:
            self._restart(acked)
        else:
            shipper.wake(urgent=True)

    def say(self, text: str) -> None:
        """A line of rgrid's own, before the script starts."""
        self._notes.append((wire_time(utc_now()), f"{text}\n"))
        self._moved.set()

    def script_started(self, read_from: ReadFrom, started_at: str | None) -> None:
        """From now on the log is the script's. ``read_from`` gives its chunks after a number."""
        self._read_from = read_from
        self.enter(Phase.RUNNING, started_at)
        self._moved.set()

    def script_ended(self, last_seq: int) -> None:
        """The script's last chunk has this number (0: it wrote nothing)."""
        self.last = len(self._notes) + last_seq
        self._moved.set()

    def enter(self, phase: Phase, started_at: str | None = None) -> None:
        """Report a phase, with the next report."""
        self._phase = phase
        self._started_at = started_at or self._started_at
        self._news = True
        self._shipper.wake(urgent=False)

    async def drained(self) -> None:
        """Return once the API has all up to ``last``. Stale if it wants none; or what reading raised."""
        while self.last is None or self.acked is None or self.acked < self.last:
            if self.stale:
                raise Stale
            if self._pump is not None and self._pump.done() and not self._pump.cancelled():
                self._pump.result()
            await self._moved.wait()
            self._moved.clear()

    def lacks(self, next_seq: int) -> None:
        """The API lacks everything from ``next_seq`` on: ship it again."""
        self.acked = next_seq - 1
        self._restart(self.acked)

    def close(self) -> None:
        """Nothing more is shipped."""
        if self._pump is not None:
            self._pump.cancel()
        self._shipper.forget(self)

    def report(self, limit: int) -> AttemptReport | None:
        """What there is to say now, with about ``limit`` bytes of log; None if nothing."""
        if not self._buffer and not self._news:
            return None
        self._news = False
        chunks: list[LogChunk] = []
        size = 0
        for chunk in self._buffer:
            if chunks and size + len(chunk["data"]) > limit:
                break
            chunks.append(chunk)
            size += len(chunk["data"])
        return {
            "execution_id": self.execution_id,
            "attempt": self.attempt,
            "phase": self._phase,
            "started_at": self._started_at,
            "chunks": chunks,
        }

    def unsent(self) -> None:
        """The report did not arrive."""
        self._news = True

    def answered(self, answer: ReportAnswer) -> None:
        """Take the API's word for what it has."""
        if answer["stale"]:
            self.stale = True
            self._buffer.clear()
            if self._pump is not None:
                self._pump.cancel()
        elif self.acked is None:
            self.lacks(answer["next_seq"])
        else:
            self.acked = answer["next_seq"] - 1
            while self._buffer and self._buffer[0]["seq"] <= self.acked:
                self._buffered -= len(self._buffer.popleft()["data"])
            if self._buffer and self._buffer[0]["seq"] > self.acked + 1:
                self.lacks(answer["next_seq"])
        self._moved.set()

    @property
    def in_a_line(self) -> bool:
        """True if the last that waits does not end a line."""
        return bool(self._buffer) and self._open_line

    @property
    def has_log(self) -> bool:
        """True if log waits to be shipped."""
        return bool(self._buffer)

    def _restart(self, after: int) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self._buffer.clear()
        self._buffered = 0
        self._pump = asyncio.create_task(self._run(after), name=f"log {self.execution_id}.{self.attempt}")
        self._pump.add_done_callback(lambda _: self._moved.set())

    async def _run(self, after: int) -> None:
        number = after
        while True:
            while number < len(self._notes):
                at, text = self._notes[number]
                number += 1
                await self._put(number, Stream.SYSTEM, at, text.encode())
            if self._read_from is not None:
                break
            self._moved.clear()
            await self._moved.wait()
        before = len(self._notes)
        async for chunk in self._read_from(number - before):
            await self._put(before + chunk.seq, chunk.stream, wire_time_us(chunk.at_us), chunk.data)

    async def _put(self, seq: int, stream: Stream, at: str, data: bytes) -> None:
        while self._buffered > BUFFER_BYTES:
            self._moved.clear()
            await self._moved.wait()
        chunk: LogChunk = {"seq": seq, "stream": stream, "at": at, "data": base64.b64encode(data).decode()}
        self._buffer.append(chunk)
        self._open_line = not data.endswith(b"\n")
        self._buffered += len(chunk["data"])
        self._shipper.wake(urgent=True)


class LogShipper:
    """Sends the news of all feeds. ``stale`` is told of attempts that the API does not want to hear of."""

    def __init__(self, control: Control, stale: Callable[[str, int], None]) -> None:
        self._control = control
        self._stale = stale
        self._feeds: list[Feed] = []
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()

    def feed(self, execution_id: str, attempt: int, notes: list[tuple[str, str]], *, acked: int | None) -> Feed:
        """Open an attempt's way to the API. ``acked``: 0 for a fresh one, None for one that is taken over."""
        feed = Feed(self, execution_id, attempt, notes, acked=acked)
        self._feeds.append(feed)
        return feed

    def forget(self, feed: Feed) -> None:
        """The feed is closed."""
        if feed in self._feeds:
            self._feeds.remove(feed)

    def wake(self, *, urgent: bool) -> None:
        """There is something to send: log (``urgent``) or a phase."""
        self._wake.set()
        if urgent:
            self._urgent.set()

    async def run(self) -> None:
        """Ship until cancelled."""
        while True:
            await self._wake.wait()
            if not self._urgent.is_set():
                await self._more_within(RIDE_S)
            if any(feed.in_a_line for feed in self._feeds):
                self._urgent.clear()
                await self._more_within(LINE_S)
            self._wake.clear()
            self._urgent.clear()
            await self.run_once()

    async def _more_within(self, seconds: float) -> None:
        """Return when there is more log, or after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._urgent.wait()
        except TimeoutError:
            return

    async def run_once(self) -> None:
        """Send one report of everything that waits, and take the answers."""
        feeds = list(self._feeds)
        share = max(SHARE_BYTES, POST_BYTES // max(1, sum(feed.has_log for feed in feeds)))
        told: list[Feed] = []
        reports: list[AttemptReport] = []
        left = POST_BYTES
        for feed in feeds:
            report = feed.report(min(share, left)) if left > 0 else None
            if report is not None:
                told.append(feed)
                reports.append(report)
                left -= sum(len(chunk["data"]) for chunk in report["chunks"])
        if not reports:
            return
        # Who was heard last is heard first next time, should one report not hold all.
        self._feeds = [feed for feed in self._feeds if feed not in told] + [f for f in told if f in self._feeds]
        try:
            reply = await self._control.report(reports)
        except RgridError as error:
            log.error("The API refuses a report: %s", error.message)
            for feed in told:
                feed.unsent()
            await asyncio.sleep(_AGAIN_S)
            self.wake(urgent=True)
            return
        for feed, answer in zip(told, reply["answers"], strict=True):
            feed.answered(answer)
            if answer["stale"]:
                self._stale(feed.execution_id, feed.attempt)
        if any(feed.has_log for feed in self._feeds):
            self.wake(urgent=True)
