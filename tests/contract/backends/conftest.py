"""The bench that every backend is put on. A backend joins the suite by adding its factory to ``FACTORIES``."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from rgrid_runner.backends.base import Backend, Chunk, Exit, StartOrder
from rgrid_runner.backends.process import ProcessBackend
from rgrid_shared.states import FailureClass, Stream

LOST_AFTER_S: Final = 1.0
FACTORIES: Final[dict[str, Callable[[Path], Backend]]] = {
    "process": lambda directory: ProcessBackend(directory, lost_after_s=LOST_AFTER_S),
}
LINE_BY_LINE: Final = "import sys; sys.stdout.reconfigure(line_buffering=True)\n"
PYTHON: Final = os.path.realpath(sys.executable)


class Bench:
    """One backend under test, a place for its runs, and short ways to start and read them."""

    def __init__(self, factory: Callable[[Path], Backend], directory: Path) -> None:
        self._factory = factory
        self._numbers = itertools.count(1)
        self.directory = directory
        self.work = directory / "work"
        self.work.mkdir()
        self.backend = factory(directory / "state")

    def order(self, *argv: str, **changes: Any) -> StartOrder:
        key = changes.pop("key", f"exe_{next(self._numbers)}.1")
        values: dict[str, Any] = {
            "key": key,
            "argv": argv,
            "env": {
                "PATH": os.environ["PATH"],
                "RGRID_EXECUTION_ID": f"{self.directory}/{key}",
                "RGRID_ATTEMPT": "1",
            },
            "cwd": self.work,
            "spool": self.directory / "spools" / key,
            "timeout_s": None,
            "grace_s": 5.0,
            "stdin": None,
            "memory": 0,
            "cpu_millis": 0,
            "log_limit": 1 << 30,
        }
        return StartOrder(**(values | changes))

    def python_order(self, code: str, *args: str, **changes: Any) -> StartOrder:
        return self.order(PYTHON, "-S", "-c", LINE_BY_LINE + code, *args, **changes)

    async def start(self, code: str, *args: str, **changes: Any) -> str:
        """Start Python code; returns its key."""
        order = self.python_order(code, *args, **changes)
        await self.backend.start(order)
        return order.key

    async def run(self, code: str, *args: str, **changes: Any) -> tuple[Exit, bytes, bytes]:
        """Run Python code to its end: exit, stdout, stderr."""
        return await self.finish(await self.start(code, *args, **changes))

    async def finish(self, key: str) -> tuple[Exit, bytes, bytes]:
        chunks = await self.chunks(key)
        return await self.backend.wait(key), joined(chunks, Stream.STDOUT), joined(chunks, Stream.STDERR)

    async def chunks(self, key: str, after: int = 0) -> list[Chunk]:
        return [chunk async for chunk in self.backend.stream(key, after)]

    async def first_line(self, key: str) -> str:
        """What the script says first: it is up."""
        async for chunk in self.backend.stream(key, 0):
            return chunk.data.decode().splitlines()[0]
        raise AssertionError("it said nothing")

    async def succeed(self) -> list[str]:
        """Put a second backend object in the place of the first; returns what it found."""
        await self.backend.close(abandon=True)
        return await self.reopen()

    async def reopen(self) -> list[str]:
        self.backend = self._factory(self.directory / "state")
        return await self.backend.open()


def joined(chunks: list[Chunk], stream: Stream) -> bytes:
    return b"".join(chunk.data for chunk in chunks if chunk.stream is stream)


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Look again and again until ``true()``; fails after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    """True if the process runs, stands or waits: a zombie is dead."""
    return state_of(pid) not in ("Z", "X", "")


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture(params=sorted(FACTORIES))
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    it = Bench(FACTORIES[request.param], tmp_path)
    keys = await it.backend.open()
    assert keys == []
    yield it
    for key in await it.succeed():
        await it.backend.kill(key, FailureClass.CANCELLED)
        await it.backend.clean(key)
    await it.backend.close(abandon=False)
