"""The bench that every backend is put on. A backend joins the suite by adding a bench of its own to ``BENCHES``."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from support.engine import IMAGE, require_image

from rgrid_runner.backends import spool
from rgrid_runner.backends.base import Backend, Box, Chunk, Exit, Mount, StartOrder
from rgrid_runner.backends.docker import DockerBackend
from rgrid_runner.backends.process import ProcessBackend
from rgrid_runner.containers.settings import ContainerSettings
from rgrid_shared.states import FailureClass, Stream

LOST_AFTER_S: Final = 1.0
LINE_BY_LINE: Final = "import sys; sys.stdout.reconfigure(line_buffering=True)\n"
MIB: Final = 1024**2


class Bench:
    """One backend under test, a place for its runs, and short ways to start and read them.

    Scripts are told and tell numbers of processes as they see them; ``alive`` and ``state_of`` take such.
    """

    name: ClassVar[str]
    python: ClassVar[str]
    seekable_stdin: ClassVar[bool]
    """A file that is given as stdin can be sought in, not only read."""

    def __init__(self, directory: Path) -> None:
        self._numbers = itertools.count(1)
        self.directory = directory
        self.work = directory / "work"
        self.work.mkdir()
        self.backend = self.make()

    def make(self) -> Backend:
        """A backend on this bench's state."""
        raise NotImplementedError

    def program(self) -> str:
        """Python code that makes the same, as ``backend``, in another process."""
        raise NotImplementedError

    def path(self) -> str:
        """PATH of scripts."""
        raise NotImplementedError

    def box(self) -> Box | None:
        """What scripts run in."""
        return None

    def process(self, pid: int) -> int:
        """What this host calls a script's process; 0 if it is gone."""
        raise NotImplementedError

    def state_of(self, pid: int) -> str:
        """The state of a script's process: T if it was made to stand, nothing if it is gone."""
        return state_of(self.process(pid))

    def alive(self, pid: int) -> bool:
        """True if a script's process runs, stands or waits: a zombie is dead."""
        return self.state_of(pid) not in ("Z", "X", "")

    def spool(self, key: str) -> Path:
        return self.directory / "spools" / key

    def shim(self, key: str) -> int:
        """The process that holds a run. Its parent is its guard."""
        identity = spool.read_identity(self.spool(key))
        assert identity is not None
        return identity.shim[0]

    def order(self, *argv: str, **changes: Any) -> StartOrder:
        key = changes.pop("key", f"exe_{next(self._numbers)}.1")
        values: dict[str, Any] = {
            "key": key,
            "argv": argv,
            "env": {"PATH": self.path(), "RGRID_EXECUTION_ID": f"{self.directory}/{key}", "RGRID_ATTEMPT": "1"},
            "cwd": self.work,
            "spool": self.spool(key),
            "timeout_s": None,
            "grace_s": 5.0,
            "stdin": None,
            "memory": 0,
            "cpu_millis": 0,
            "log_limit": 1 << 30,
            "box": self.box(),
        }
        return StartOrder(**(values | changes))

    def python_order(self, code: str, *args: str, **changes: Any) -> StartOrder:
        return self.order(self.python, "-S", "-c", LINE_BY_LINE + code, *args, **changes)

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
        self.backend = self.make()
        return await self.backend.open()


def joined(chunks: list[Chunk], stream: Stream) -> bytes:
    return b"".join(chunk.data for chunk in chunks if chunk.stream is stream)


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Look again and again until ``true()``; fails after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class ProcessBench(Bench):
    """Scripts are children of this host."""

    name = "process"
    python = os.path.realpath(sys.executable)
    seekable_stdin = True

    def make(self) -> Backend:
        return ProcessBackend(self.directory / "state", lost_after_s=LOST_AFTER_S)

    def program(self) -> str:
        return f"""
from pathlib import Path
from rgrid_runner.backends.process import ProcessBackend
backend = ProcessBackend(Path({str(self.directory / "state")!r}))
"""

    def path(self) -> str:
        return os.environ["PATH"]

    def process(self, pid: int) -> int:
        return pid


class NoNetwork:
    """For containers that have none."""

    def require(self) -> str:
        raise AssertionError("nobody here asks for a network")

    async def open(self) -> None:
        pass

    async def keep(self) -> None:
        await asyncio.Event().wait()


SETTINGS: Final = ContainerSettings(
    disk=64 * MIB, memory=2048 * MIB, tmp=64 * MIB, shm=64 * MIB, pids=512, spare=0, idle_s=300.0
)


class DockerBench(Bench):
    """Scripts are in containers; the workspace is where it is on this host."""

    name = "docker"
    python = "/usr/bin/python3"
    seekable_stdin = False
    _remembered: ClassVar[Path | None] = None
    """What one bench has found out about the image."""

    def __init__(self, directory: Path) -> None:
        self.image = require_image(IMAGE)
        super().__init__(directory)
        os.chown(self.work, DockerBackend.owner, DockerBackend.owner)
        (directory / "state").mkdir()
        if self._remembered is not None and self._remembered.exists():
            shutil.copy(self._remembered, directory / "state")
        else:
            DockerBench._remembered = directory / "state" / "keepers.json"

    def make(self) -> Backend:
        return DockerBackend(self.directory / "state", SETTINGS, NoNetwork(), slots=2, lost_after_s=LOST_AFTER_S)

    def program(self) -> str:
        return f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path, PosixPath
from contract.backends.conftest import SETTINGS, NoNetwork
from rgrid_runner.backends.base import Box, Mount
from rgrid_runner.backends.docker import DockerBackend
backend = DockerBackend(Path({str(self.directory / "state")!r}), SETTINGS, NoNetwork(), slots=2)
"""

    def path(self) -> str:
        return "/usr/local/bin:/usr/bin:/bin"

    def box(self) -> Box | None:
        return Box(self.image, "one batch", network=False, mounts=(Mount(self.work, str(self.work), writable=True),))

    def process(self, pid: int) -> int:
        """Found by what a script sees and by the mark in the environment of this bench's scripts."""
        mark = f"RGRID_EXECUTION_ID={self.directory}/".encode()
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                status = Path(f"/proc/{name}/status").read_text()
                inside = status.partition("NSpid:")[2].splitlines()[0].split()
                if len(inside) > 1 and int(inside[-1]) == pid and mark in Path(f"/proc/{name}/environ").read_bytes():
                    return int(name)
            except OSError:
                continue  # it is gone
        return 0

    def state_of(self, pid: int) -> str:
        number = self.process(pid)
        return "T" if number and frozen(number) else state_of(number)


def frozen(pid: int) -> bool:
    """True if the process's control group stands."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "freezer":
            return Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").read_text() == "FROZEN\n"
    return "frozen 1" in Path(f"/sys/fs/cgroup{path}/cgroup.events").read_text()


BENCHES: Final[dict[str, Callable[[Path], Bench]]] = {"process": ProcessBench, "docker": DockerBench}


@asynccontextmanager
async def opened(it: Bench) -> AsyncIterator[Bench]:
    """The bench with its backend open; in the end nothing is left of it, however the test went."""
    try:
        assert await it.backend.open() == []
        yield it
        for key in await it.succeed():
            await it.backend.kill(key, FailureClass.CANCELLED)
            await it.backend.clean(key)
    finally:
        await it.backend.close(abandon=False)
    assert not list(left_over(it.directory))


@pytest.fixture(params=sorted(BENCHES))
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(BENCHES[request.param](tmp_path)) as it:
        yield it


def left_over(directory: Path) -> Iterator[Path]:
    """Control directories of containers, and disks."""
    for name in ("ctl", "disks"):
        if (directory / "state" / name).exists():
            yield from (directory / "state" / name).iterdir()
