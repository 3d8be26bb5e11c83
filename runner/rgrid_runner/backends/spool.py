"""Reads what a shim leaves in a run's spool directory: the log, who ran it, and how it ended."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Final

from rgrid_runner.backends.base import TAIL_BYTES, Chunk, Exit, StreamTotals
from rgrid_runner.shim import frames
from rgrid_shared.states import FailureClass, Stream

_BLOCK: Final = 1024 * 1024
_REUSABLE, _MORE = 13, 14
"""Fields of a status from here on are not written by a shim of an earlier version."""
_STREAMS: Final = {frames.STDOUT: Stream.STDOUT, frames.STDERR: Stream.STDERR, frames.SYSTEM: Stream.SYSTEM}


class LogReader:
    """Reads a log that may still grow, in blocks: memory stays flat however long it is."""

    def __init__(self, spool: Path, after: int = 0) -> None:
        """Chunks up to number ``after`` are passed over."""
        self._path = spool / frames.LOG_FILE
        self._after = after
        self._fd = -1
        self._rest = b""

    def read(self) -> list[Chunk]:
        """The next chunks, nothing if there are none for now."""
        while True:
            block = self._block()
            if not block:
                return []
            self._rest += block
            chunks = list(self._take())
            if chunks:
                return chunks

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _block(self) -> bytes:
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""  # the shim died before it made one
        return os.read(self._fd, _BLOCK)

    def _take(self) -> Iterator[Chunk]:
        data, head, at = self._rest, frames.CHUNK.size, 0
        while len(data) - at >= head:
            size, stream, seq, at_us = frames.CHUNK.unpack_from(data, at)
            end = at + head + size
            if end > len(data):
                break
            if seq > self._after:
                yield Chunk(seq, _STREAMS[stream], at_us, data[at + head : end])
            at = end
        self._rest = data[at:]


@dataclass(frozen=True, slots=True)
class Container:
    """The container that a run is in.

    Its id, its control directory, the host's pid of its PID 1 with the start tick, and the cgroup directory (that of
    the freezer in cgroup v1) that reaches all its processes.
    """

    name: str
    control: Path
    keeper: tuple[int, int]
    cgroup: Path


@dataclass(frozen=True, slots=True)
class Identity:
    """Which processes a run is: the shim's and the script's pid with their start ticks, and what marks its children.

    ``marks``: ``NAME=value`` pairs of the environment that no other run has. ``container``: what the run is in, if it
    is in one; the script's own pid is 0 then.
    """

    boot_id: bytes
    shim: tuple[int, int]
    script: tuple[int, int]
    started_at: datetime
    marks: tuple[bytes, ...]
    container: Container | None = None


def remove(spool: Path) -> None:
    """Remove the directory and whatever is in it."""
    try:
        for name in (frames.LOG_FILE, frames.RUN_FILE, frames.STATUS_FILE):
            (spool / name).unlink()
        spool.rmdir()
    except OSError:  # more or less in it than after an orderly end
        shutil.rmtree(spool, ignore_errors=True)


def read_identity(spool: Path) -> Identity | None:
    """Who runs or ran here, or None if nothing was started."""
    fields = _read_frame(spool / frames.RUN_FILE)
    if fields is None:
        return None
    shim, shim_tick, script, script_tick, started_ns = map(int, fields[1:6])
    marks = tuple(takewhile(bool, fields[6:]))
    place = fields[7 + len(marks) :]
    return Identity(
        fields[0],
        (shim, shim_tick),
        (script, script_tick),
        _time(started_ns),
        marks,
        _container(place) if place else None,
    )


def _container(fields: list[bytes]) -> Container:
    name, control, keeper, tick, cgroup = fields
    return Container(name.decode(), Path(os.fsdecode(control)), (int(keeper), int(tick)), Path(os.fsdecode(cgroup)))


def read_status(spool: Path) -> list[bytes] | None:
    """The fields of the status, or None if the run has not ended in order."""
    return _read_frame(spool / frames.STATUS_FILE)


def reusable(status: list[bytes]) -> bool:
    """True if what the run was in is as it was before it."""
    return len(status) > _REUSABLE and status[_REUSABLE] == frames.YES


def log_bytes(spool: Path) -> int:
    """Size of the log file, 0 if there is none."""
    try:
        return (spool / frames.LOG_FILE).stat().st_size
    except FileNotFoundError:
        return 0


def exit_of(spool: Path, status: list[bytes], *, timeout_s: float | None = None) -> Exit:
    """The end that a status tells, with the digests of the log (which is read for them)."""
    raw, cause, started_ns, ended_ns, wall_ms, cpu_ms, max_rss, last_seq, cut_out, cut_err, peak = map(int, status[:11])
    code = os.waitstatus_to_exitcode(raw) if raw >= 0 else None
    signum = -code if code is not None and code < 0 else None
    read_bytes, written_bytes, memory = map(int, status[_MORE : _MORE + 3] or (0, 0, 0))
    failure, message = _verdict(cause, status[11].decode(), code, timeout_s, peak, memory)
    streams, _ = totals(spool, {Stream.STDOUT: cut_out, Stream.STDERR: cut_err})
    return Exit(
        exit_code=128 + signum if signum else code,
        signal=signum,
        failure=failure,
        message=message,
        started_at=_time(started_ns),
        ended_at=_time(ended_ns),
        wall_ms=wall_ms,
        cpu_ms=cpu_ms,
        max_rss=max_rss,
        streams=streams,
        last_seq=last_seq,
        stderr_tail=status[12].decode("utf-8", "replace"),
        read_bytes=read_bytes,
        written_bytes=written_bytes,
    )


def lost(spool: Path, message: str, now: datetime) -> Exit:
    """The end of a run whose shim left no status that can be trusted."""
    identity = read_identity(spool)
    started = identity.started_at if identity else now
    streams, last_seq = totals(spool, {})
    return Exit(
        exit_code=None,
        signal=None,
        failure=FailureClass.INFRASTRUCTURE,
        message=message,
        started_at=started,
        ended_at=now,
        wall_ms=max(0, int((now - started).total_seconds() * 1000)),
        cpu_ms=0,
        max_rss=0,
        streams=streams,
        last_seq=last_seq,
        stderr_tail=_stderr_tail(spool),
    )


def totals(spool: Path, cut: dict[Stream, int]) -> tuple[tuple[StreamTotals, ...], int]:
    """Totals of each stream that has anything, and the last sequence number."""
    digests = {stream: hashlib.sha256() for stream in Stream}
    kept = dict.fromkeys(Stream, 0)
    last_seq = 0
    reader = LogReader(spool)
    while chunks := reader.read():
        for chunk in chunks:
            digests[chunk.stream].update(chunk.data)
            kept[chunk.stream] += len(chunk.data)
        last_seq = chunks[-1].seq
    reader.close()
    streams = tuple(
        StreamTotals(stream, kept[stream], cut.get(stream, 0), digests[stream].hexdigest())
        for stream in Stream
        if kept[stream] or cut.get(stream)
    )
    return streams, last_seq


def _stderr_tail(spool: Path) -> str:
    tail = b""
    reader = LogReader(spool)
    while chunks := reader.read():
        for chunk in chunks:
            if chunk.stream is Stream.STDERR:
                tail = (tail + chunk.data)[-TAIL_BYTES:]
    reader.close()
    return tail.decode("utf-8", "replace")


def _verdict(
    cause: int, reason: str, code: int | None, timeout_s: float | None, peak: int, memory: int
) -> tuple[FailureClass | None, str]:
    """Failure class and sentence."""
    if cause == frames.BY_TIMEOUT:
        limit = f" of {timeout_s:g} s" if timeout_s is not None else ""
        return FailureClass.TIMEOUT, f"It ran into its time limit{limit} and was stopped."
    if cause == frames.BY_MEMORY:
        return FailureClass.OOM, f"It was killed because memory ran out{_used(peak, memory)}"
    if cause == frames.BY_REQUEST:
        failure = FailureClass(reason)
        return failure, failure.rule.sentence
    if cause == frames.BY_LEASE:
        return FailureClass.RUNNER_LOST, "The runner was without its server for too long; the script was killed."
    if cause == frames.BY_HOST:
        return FailureClass.PREEMPTED, "The runner's host was shutting down."
    if cause == frames.BY_LOSS:
        return FailureClass.INFRASTRUCTURE, "The container that the script was in died."
    if cause == frames.BY_DISK:
        return FailureClass.INFRASTRUCTURE, "The runner's disk is full."
    if code is None:
        return FailureClass.INFRASTRUCTURE, "The script's exit status is not known."
    if code < 0:
        return FailureClass.SCRIPT, f"It was killed by {_signal_name(-code)}."
    return (FailureClass.SCRIPT, f"It exited with code {code}.") if code else (None, "")


def _used(peak: int, memory: int) -> str:
    """The end of a sentence: how much it was, of which limit, and what helps. All in bytes, 0 for unknown or none."""
    if not peak:
        return "."
    if not memory:
        return f": it used {_mib(peak)}."
    return f": it used {_mib(peak)} of its limit of {_mib(memory)}. Ask for more with --memory."


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _read_frame(path: Path) -> list[bytes] | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    found = frames.Splitter().feed(data)
    return found[0][2] if found else None  # a torn file is as good as none


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)
