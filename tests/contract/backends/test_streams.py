"""Output and input bytes."""

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest

from rgrid_runner.backends.base import CHUNK_BYTES
from rgrid_shared.states import Stream

from .conftest import Bench, joined

MEGABYTE = "import sys; sys.stdout.buffer.write(bytes(i * 7 % 256 for i in range(1_000_000)))"


async def test_a_megabyte_of_binary_is_exact(bench: Bench) -> None:
    """Bytes come through as written, numbered without a gap, with totals and digest that agree."""
    key = await bench.start(MEGABYTE)
    chunks = await bench.chunks(key)
    end = await bench.backend.wait(key)
    expected = bytes(i * 7 % 256 for i in range(1_000_000))
    assert joined(chunks, Stream.STDOUT) == expected
    assert [chunk.seq for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert max(len(chunk.data) for chunk in chunks) <= CHUNK_BYTES
    assert end.last_seq == len(chunks)
    (total,) = end.streams
    assert (total.stream, total.kept, total.truncated) == (Stream.STDOUT, 1_000_000, 0)
    assert total.sha256 == hashlib.sha256(expected).hexdigest()


async def test_streams_stay_apart_and_in_order(bench: Bench) -> None:
    """Stdout and stderr each keep their order; what was written apart in time keeps its order across both."""
    code = """
for i in range(5):
    print(i)
    sys.stdin.readline()
    print(i, file=sys.stderr)
    sys.stdin.readline()
"""
    key = await bench.start(code, stdin="stream")
    seen = []
    async for chunk in bench.backend.stream(key, 0):
        seen.append((chunk.stream, chunk.data))
        await bench.backend.feed(key, b"\n", False)
    expected = [(stream, f"{i}\n".encode()) for i in range(5) for stream in (Stream.STDOUT, Stream.STDERR)]
    assert seen == expected


async def test_stream_goes_on_after_a_number(bench: Bench) -> None:
    """stream(after=N) starts with chunk N + 1, however large the log is."""
    key = await bench.start(MEGABYTE)
    whole = await bench.chunks(key)
    for after in (0, 1, len(whole) // 2, len(whole) - 1, len(whole), len(whole) + 5):
        assert await bench.chunks(key, after) == whole[after:]


async def test_a_line_is_seen_while_the_script_runs(bench: Bench) -> None:
    """A chunk reaches the reader long before the script ends, with the time when it was read."""
    key = await bench.start("print('now'); input()", stdin="stream")
    before = time.time()
    assert await bench.first_line(key) == "now"
    async for chunk in bench.backend.stream(key, 0):
        assert abs(chunk.at_us / 1e6 - before) < 5
        break
    await bench.backend.feed(key, b"", True)
    assert (await bench.backend.wait(key)).exit_code == 1


async def test_log_limit_is_marked(bench: Bench) -> None:
    """Past the limit bytes are counted, one SYSTEM chunk marks the cut, and the end of stderr is still told."""
    code = "import sys\nsys.stdout.write('o' * 5000)\nsys.stdout.flush()\nsys.stderr.write('e' * 70000 + 'END')"
    key = await bench.start(code, log_limit=6000)
    chunks = await bench.chunks(key)
    end = await bench.backend.wait(key)
    kept = joined(chunks, Stream.STDOUT) + joined(chunks, Stream.STDERR)
    assert len(kept) == 6000
    marks = [chunk for chunk in chunks if chunk.stream is Stream.SYSTEM]
    assert len(marks) == 1
    assert b"6000 bytes" in marks[0].data
    assert chunks[-1] == marks[0]
    totals = {total.stream: total for total in end.streams}
    assert sum(total.kept + total.truncated for stream, total in totals.items() if stream is not Stream.SYSTEM) == 75003
    assert end.stderr_tail.endswith("END")
    assert end.last_seq == len(chunks)


async def test_exactly_the_limit_is_not_a_cut(bench: Bench) -> None:
    """A log that just fits is whole."""
    key = await bench.start("print('x' * 5999)", log_limit=6000)
    assert {chunk.stream for chunk in await bench.chunks(key)} == {Stream.STDOUT}
    assert sum(total.truncated for total in (await bench.backend.wait(key)).streams) == 0


async def test_a_slow_reader_does_not_stop_the_script(bench: Bench) -> None:
    """The spool is the buffer: a script ends though nobody reads, and its output is all there."""
    key = await bench.start("import sys\nfor i in range(200): sys.stdout.write('y' * 65536)")
    end = await bench.backend.wait(key)
    assert end.streams[0].kept == 200 * 65536
    assert len(joined(await bench.chunks(key), Stream.STDOUT)) == 200 * 65536


async def test_empty_stdin(bench: Bench) -> None:
    """Without stdin the script reads end of file."""
    _, out, _ = await bench.run("import sys; print(repr(sys.stdin.read()))")
    assert out == b"''\n"


async def test_stdin_from_a_file(bench: Bench) -> None:
    """A file is given as it is: binary, and seekable where the script can have the file itself."""
    source = bench.work / "in"
    source.write_bytes(bytes(range(256)) * 1000)
    code = "import sys, hashlib; print(sys.stdin.seekable(), hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    _, out, _ = await bench.run(code, stdin=source)
    assert out.decode() == f"{bench.seekable_stdin} {hashlib.sha256(source.read_bytes()).hexdigest()}\n"


async def test_fed_stdin(bench: Bench) -> None:
    """Fed bytes arrive in order and eof ends them; fed() counts them."""
    key = await bench.start(
        "import sys, hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())", stdin="stream"
    )
    data = bytes(range(256)) * 4000
    for at in range(0, len(data), 300_001):
        await bench.backend.feed(key, data[at : at + 300_001], False)
    assert await bench.backend.fed(key) == len(data)
    await bench.backend.feed(key, b"", True)
    _, out, _ = await bench.finish(key)
    assert out.decode().strip() == hashlib.sha256(data).hexdigest()


async def test_feed_waits_for_the_script(bench: Bench) -> None:
    """feed() returns only when the pipe took the bytes; kill and the log work meanwhile."""
    key = await bench.start("import time; print('up'); time.sleep(1000)", stdin="stream")
    await bench.first_line(key)
    feeding = asyncio.ensure_future(bench.backend.feed(key, b"x" * 4_000_000, True))
    await bench.backend.freeze(key)
    await bench.backend.thaw(key)
    assert not feeding.done()
    await bench.backend.clean(key)
    await asyncio.wait_for(feeding, 5)


@pytest.mark.parametrize("code", ["import os; os.close(0); print('up')", "print('up')"])
async def test_feeding_a_script_that_does_not_read_is_no_error(bench: Bench, code: str) -> None:
    """Bytes for a closed stdin or an ended script are dropped."""
    key = await bench.start(code, stdin="stream")
    await bench.first_line(key)
    await bench.backend.feed(key, b"x" * 1_000_000, False)
    await bench.backend.wait(key)
    await bench.backend.feed(key, b"more", True)
    assert (await bench.backend.wait(key)).failure is None


async def test_each_run_counts_its_own_stdin(bench: Bench) -> None:
    """A run starts with nothing fed, whatever the run before it in the same place was fed."""
    first = await bench.start("print(open(0).read(), end='')", stdin="stream")
    await bench.backend.feed(first, b"one", True)
    _, out, _ = await bench.finish(first)
    assert out == b"one"
    await bench.backend.clean(first)
    second = await bench.start("print(open(0).read(), end='')", stdin="stream")
    assert await bench.backend.fed(second) == 0
    await bench.backend.feed(second, b"two", True)
    assert await bench.backend.fed(second) == 3
    _, out, _ = await bench.finish(second)
    assert out == b"two"
