"""A backend with the least there can be around a shim and a container, and a bench to try it on.

It shows what the shim side promises, without a pool, volumes or an engine between: all runs are started in the one
container that ``HeldBackend.held`` is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from rgrid_runner.backends import spool
from rgrid_runner.backends.base import BackendError, Box, Exit, Mount, StartOrder
from rgrid_runner.backends.shimmed import ShimBackend
from rgrid_runner.containers import layout
from rgrid_runner.shim.cgroup import find
from rgrid_runner.shim.place import Place
from rgrid_shared.states import FailureClass, Stream
from support.engine import IMAGE, require_image

LABEL: Final = "io.rgrid.test=held"
PIDS: Final = 100
HOME: Final = "/home/alice/project"
"""Where the bench's workspace is in a container."""
MIB: Final = 1 << 20


@dataclass
class Held:
    """One container, up and idle."""

    name: str
    control: Path
    keeper: int
    root: Path
    shell: bool
    lifeline: int

    def let_go(self) -> None:
        """The agent's end of the lifeline."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1


def up(image: str, directory: Path, *, python: str = "python3") -> Held:
    """Create and start a container by the ``docker`` program, hardened as a runner's are."""
    programs, control = directory / "programs", directory / "control"
    layout.install(programs)
    layout.make_control(control)
    lifeline = layout.hold(control)
    options = (
        *("--rm", "--read-only", "--user", f"{layout.UID}:{layout.UID}", "--cap-drop", "ALL", "--network", "none"),
        *("--security-opt", "no-new-privileges", "--label", LABEL, "--ipc", "private", "--ulimit", "core=0"),
        *("-v", f"{control}:{layout.CONTROL}:ro", "-v", f"{programs}:{layout.PROGRAMS}:ro"),
    )
    first, *rest = layout.keeper_command(python)
    name = _docker("create", *options, "--entrypoint", first, image, *rest)
    _docker("start", name)
    facts = json.loads(_docker("inspect", name))[0]
    keeper = int(facts["State"]["Pid"])
    return Held(name, control, keeper, Path(facts["GraphDriver"]["Data"]["MergedDir"]), not python, lifeline)


def gone(name: str) -> bool:
    """True if the engine has no such container."""
    return not _docker("ps", "-aq", "--no-trunc", "--filter", f"id={name}")


def remove(name: str) -> None:
    """Whatever state it is in."""
    subprocess.run(("docker", "rm", "-f", name), capture_output=True, check=False)


def _docker(*arguments: str) -> str:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=True).stdout.strip()


class HeldBackend(ShimBackend):
    """Starts every run in ``held``."""

    name: ClassVar[str] = "held"

    def __init__(self, directory: Path, *, lost_after_s: float = 3600.0) -> None:
        super().__init__(directory, lost_after_s=lost_after_s)
        self.left: dict[str, bool] = {}
        self.adopted: Mapping[str, spool.Identity] = {}
        self.held: Held | None = None

    async def _enter(self, order: StartOrder) -> Place | None:
        held, box = self.held, order.box
        assert held is not None
        assert box is not None
        return Place(
            name=held.name.encode(),
            control=bytes(held.control),
            keeper=held.keeper,
            root=bytes(held.root),
            mounts=[(bytes(mount.source), mount.target.encode(), mount.writable) for mount in box.mounts],
            tmp=box.tmp or 64 * MIB,
            shm=box.shm or 64 * MIB,
            pids=PIDS,
            cpu_millis=order.cpu_millis,
            warm=box.warm,
            shell=held.shell,
        )

    def _leave(self, key: str, *, reusable: bool) -> None:
        self.left[key] = reusable

    def _refusal(self, order: StartOrder, code: int, step: str) -> BackendError:
        return BackendError(f"{step}: {os.strerror(code)}", FailureClass.INFRASTRUCTURE)

    def _adopted(self, held: Mapping[str, spool.Identity]) -> None:
        self.adopted = held


class Bench:
    """One container, and short ways to run things in it."""

    def __init__(self, directory: Path, python: str) -> None:
        self.directory = directory
        self.python = python
        self.work = self.make("work")
        self.layer = self.make("layer")
        (self.layer / "module.py").write_text("value = 1\n")
        self.backend = HeldBackend(directory / "state")
        self.container: Held
        self._numbers = itertools.count(1)

    def make(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(parents=True)
        os.chown(path, layout.UID, layout.UID)
        return path

    async def open(self) -> None:
        await self.backend.open()
        await self.renew()

    async def renew(self) -> None:
        """Another container."""
        number = next(self._numbers)
        self.container = await asyncio.to_thread(up, IMAGE, self.directory / f"c{number}", python=self.python)
        self.backend.held = self.container

    def order(self, *argv: str, mounts: tuple[Mount, ...] | None = None, **changes: Any) -> StartOrder:
        number = next(self._numbers)
        standard = (Mount(self.work, HOME, writable=True), Mount(self.layer, "/opt/rgrid/layer"))
        values: dict[str, Any] = {
            "key": f"exe_{number}.1",
            "argv": argv,
            "env": {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            "cwd": Path(HOME),
            "spool": self.directory / "spools" / str(number),
            "timeout_s": 60.0,
            "grace_s": 0.5,
            "stdin": None,
            "memory": 200 * MIB,
            "cpu_millis": 0,
            "log_limit": MIB,
            "box": Box("", "", mounts=standard if mounts is None else mounts, warm=changes.pop("warm", False)),
        }
        return StartOrder(**(values | changes))

    async def start(self, *argv: str, **changes: Any) -> str:
        order = self.order(*argv, **changes)
        await self.backend.start(order)
        return order.key

    async def finish(self, key: str) -> tuple[Exit, bytes, bytes]:
        async with asyncio.timeout(30):
            chunks = [chunk async for chunk in self.backend.stream(key, 0)]
            end = await self.backend.wait(key)
        out, err = (
            b"".join(chunk.data for chunk in chunks if chunk.stream is stream)
            for stream in (Stream.STDOUT, Stream.STDERR)
        )
        return end, out, err

    async def run(self, *argv: str, **changes: Any) -> tuple[Exit, bytes, bytes]:
        return await self.finish(await self.start(*argv, **changes))

    async def script(self, code: str, **changes: Any) -> tuple[Exit, bytes, bytes]:
        return await self.run("python3", "-uSc", code, **changes)

    async def first_line(self, key: str) -> str:
        async for chunk in self.backend.stream(key, 0):
            return chunk.data.decode().splitlines()[0]
        raise AssertionError("it said nothing")

    def shim_of(self, key: str) -> int:
        run = self.backend._runs[key]
        assert run.link is not None
        return run.link.pid

    def processes(self) -> list[int]:
        return find(self.container.keeper).pids()

    def is_clean(self) -> bool:
        """True if the container is as it was when it started."""
        mounted = Path(f"/proc/{self.container.keeper}/mountinfo").read_text()
        return HOME not in mounted and self.processes() == [self.container.keeper]


async def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    """Look again and again until ``true()``, in a thread; fails after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(true):
            await asyncio.sleep(0.01)


async def bench_with(tmp_path: Path, python: str) -> AsyncIterator[Bench]:
    """A bench with a container that is up. ``python``: the keeper's interpreter, empty for that in shell."""
    require_image(IMAGE)
    it = Bench(tmp_path, python)
    await it.open()
    made = [it.container]
    yield it
    made.append(it.container)
    await it.backend.close(abandon=False)
    for container in made:
        container.let_go()
        await asyncio.to_thread(remove, container.name)
