"""What a shim writes to disk is what the agent reads from it."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid_runner.backends import spool
from rgrid_runner.backends.base import Chunk
from rgrid_runner.shim import frames
from rgrid_runner.shim.sink import Sink
from rgrid_shared.states import Stream

WRITES = st.lists(st.tuples(st.sampled_from((frames.STDOUT, frames.STDERR)), st.binary(min_size=1, max_size=200)))


def sink_in(directory: Path, limit: int) -> Sink:
    return Sink(os.fsencode(directory / frames.LOG_FILE), limit)


def read(directory: Path) -> list[Chunk]:
    reader = spool.LogReader(directory)
    chunks = []
    while more := reader.read():
        chunks += more
    reader.close()
    return chunks


def text(chunks: list[Chunk], stream: Stream) -> bytes:
    return b"".join(chunk.data for chunk in chunks if chunk.stream is stream)


@given(writes=WRITES, limit=st.integers(0, 3000))
def test_every_byte_is_kept_or_counted(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], limit: int
) -> None:
    """Up to the limit bytes are kept in order; past it they are counted and the cut is marked once, at the end."""
    directory = tmp_path_factory.mktemp("spool")
    sink = sink_in(directory, limit)
    for stream, data in writes:
        sink.write(stream, data)
    sink.close()
    chunks = read(directory)
    assert [chunk.seq for chunk in chunks] == list(range(1, len(chunks) + 1))
    order = b"".join(data for _, data in writes)
    assert b"".join(chunk.data for chunk in chunks if chunk.stream is not Stream.SYSTEM) == order[:limit]
    marks = [chunk for chunk in chunks if chunk.stream is Stream.SYSTEM]
    assert len(marks) == (1 if len(order) > limit else 0)
    assert marks == chunks[len(chunks) - len(marks) :]
    assert sum(sink.truncated.values()) == max(0, len(order) - limit)
    err = b"".join(data for stream, data in writes if stream == frames.STDERR)
    assert sink.stderr_tail == err[-4096:]
    totals, last_seq = spool.totals(directory, {})
    assert last_seq == len(chunks)
    for total in totals:
        kept = text(chunks, total.stream)
        assert (total.kept, total.sha256) == (len(kept), hashlib.sha256(kept).hexdigest())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond ``size``: what a full disk does, on demand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_whole_chunks_and_a_count(tmp_path: Path) -> None:
    """When the disk takes no more, the log ends between two chunks and the rest is counted."""
    sink = sink_in(tmp_path, 1_000_000)
    with largest_file(10_000):
        for _ in range(10):
            sink.write(frames.STDOUT, b"x" * 3000)
    sink.close()
    chunks = read(tmp_path)
    kept = text(chunks, Stream.STDOUT)
    assert kept == b"x" * 9000
    assert sink.truncated[frames.STDOUT] == 21_000
    assert b"disk is full" in text(chunks, Stream.SYSTEM)


def test_a_reader_follows_a_growing_file(tmp_path: Path) -> None:
    """A chunk that is only half written is not seen until it is whole."""
    whole = sink_in(tmp_path, 1000)
    whole.write(frames.STDOUT, b"first")
    whole.write(frames.STDERR, b"second")
    whole.close()
    log = tmp_path / frames.LOG_FILE
    data = log.read_bytes()
    reader = spool.LogReader(tmp_path)
    seen = []
    log.write_bytes(b"")
    with log.open("ab", buffering=0) as file:
        for at in range(len(data)):
            file.write(data[at : at + 1])
            seen += [chunk.data for chunk in reader.read()]
    reader.close()
    assert seen == [b"first", b"second"]


def test_a_torn_status_is_no_status(tmp_path: Path) -> None:
    """Half a status file is as good as none."""
    status = tmp_path / frames.STATUS_FILE
    status.write_bytes(frames.pack(frames.STATUS, 0, b"1", b"2")[:-1])
    assert spool.read_status(tmp_path) is None
    status.write_bytes(frames.pack(frames.STATUS, 0, b"1", b"2"))
    assert spool.read_status(tmp_path) == [b"1", b"2"]


def test_a_spool_is_removed_whatever_is_in_it(tmp_path: Path) -> None:
    """An orderly spool and one with strange things in it are both gone afterwards."""
    for extra in (None, "strange"):
        directory = tmp_path / "s"
        directory.mkdir()
        if extra:
            (directory / extra).mkdir()
        spool.remove(directory)
        assert not directory.exists()
