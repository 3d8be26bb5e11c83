"""One container that is up and idle, from its control directory to its end; and how such are made.

Which program is PID 1 depends on what the image has: an interpreter, a shell, or neither; then it is a shell of this
host's that is brought along. What it has is found out once for each image and remembered on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import select
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers import brought, layout
from rgrid_runner.containers.asking import Bind, ImageInfo, Plan, Started
from rgrid_runner.containers.engine import Engine
from rgrid_runner.containers.stock import Kind
from rgrid_runner.files import read_json, write_json
from rgrid_shared.states import FailureClass

log: Final = logging.getLogger("rgrid.runner")
NO_NETWORK: Final = "none"
_KEEPER_OOM_SCORE: Final = "-999"
_NEW_ENOUGH: Final = "import sys; raise SystemExit(sys.version_info < (3, 7))"


@dataclass(frozen=True, slots=True)
class Keeper:
    """What an image has for our PID 1: the path of its interpreter, a shell."""

    python: str
    shell: bool


class Warm:
    """A container that is up. ``go`` keeps it so."""

    def __init__(self, started: Started, kind: Kind, keeper: Keeper, control: Path, go: int) -> None:
        """Raises ProcessLookupError if PID 1 is gone. ``go`` is its own from now on."""
        self.container = started.id
        self.pid = started.pid
        self.merged = started.merged
        self.kind = kind
        self.keeper = keeper
        self.control = control
        self._pidfd = os.pidfd_open(started.pid)
        self._go = go

    @property
    def alive(self) -> bool:
        """True as long as its PID 1 is: what has died is never handed out."""
        return self._pidfd >= 0 and not select.select([self._pidfd], [], [], 0)[0]

    def on_death(self, call: Callable[[], None]) -> None:
        """Have ``call`` called once when PID 1 ends."""
        loop = asyncio.get_running_loop()

        def died() -> None:
            loop.remove_reader(self._pidfd)
            call()

        loop.add_reader(self._pidfd, died)

    def let_go(self) -> None:
        """Close what keeps it up: it ends, unless a shim still has a run in it."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            os.close(self._go)
            self._pidfd = self._go = -1


class Boxes:
    """Makes and removes containers. ``directory`` is this runner's.

    ``network``: the engine's name of the network for scripts that may have one; BackendError while they may not.
    """

    def __init__(self, directory: Path, engine: Engine, network: Callable[[], str]) -> None:
        self.engine = engine
        self._network = network
        self._programs = directory / "bin"
        self._brought = directory / "host"
        self._controls = directory / "ctl"
        self._memory = directory / "keepers.json"
        self._keepers: dict[str, Keeper] = {}
        self._images: dict[str, ImageInfo] = {}
        self._looks: dict[str, asyncio.Lock] = {}

    async def open(self, keep: set[str]) -> None:
        """Remove what an earlier agent left, but for the containers in ``keep`` (ids), which have runs that go on."""
        await asyncio.to_thread(layout.install, self._programs)
        await asyncio.to_thread(brought.install, self._brought)
        self._controls.mkdir(mode=0o700, exist_ok=True)
        remembered: dict[str, list[Any]] = read_json(self._memory) or {}
        self._keepers = {image: Keeper(str(python), bool(shell)) for image, (python, shell) in remembered.items()}
        left = [container for container in await self.engine.ours() if container not in keep]
        await asyncio.gather(*map(self.engine.remove, left))
        for control in self._controls.iterdir():
            if _owner(control) not in keep:
                shutil.rmtree(control, ignore_errors=True)

    async def image(self, image: str) -> ImageInfo:
        """An image that is present, by its id. BackendError if it is not."""
        if image not in self._images:
            self._images[image] = await self.engine.image(image, pull=False)
        return self._images[image]

    async def keeper(self, image: str) -> Keeper:
        """What can be PID 1 in an image. BackendError."""
        async with self._looks.setdefault(image, asyncio.Lock()):
            if image not in self._keepers:
                self._keepers[image] = await self._look(await self.image(image))
                found = {name: [keeper.python, keeper.shell] for name, keeper in self._keepers.items()}
                write_json(self._memory, found)
            return self._keepers[image]

    async def make(self, kind: Kind) -> Warm:
        """A container that is up. BackendError; nothing is left of it then, also if the caller is cancelled."""
        image = await self.image(kind.image)
        keeper = await self.keeper(kind.image)
        name = secrets.token_hex(6)
        control = self._controls / name
        await asyncio.to_thread(layout.make_control, control)
        go = layout.hold(control)
        container = ""
        try:
            container = await self.engine.create(self._plan(name, image, keeper, kind, control))
            (control / ".container").write_text(container)
            started = await self.engine.start(container)
            warm = Warm(started, kind, keeper, control, go)
        except BaseException as error:  # also a cancelled one
            os.close(go)
            if container:
                await asyncio.shield(self._gone(container, control))
            else:
                shutil.rmtree(control, ignore_errors=True)
            if isinstance(error, OSError):
                raise _ended_at_once(kind) from error
            raise
        with contextlib.suppress(OSError):  # some hosts let nobody lower it
            Path(f"/proc/{warm.pid}/oom_score_adj").write_text(_KEEPER_OOM_SCORE)
        return warm

    async def unmake(self, warm: Warm) -> None:
        """Kill and remove a container. BackendError if the engine does not do it."""
        warm.let_go()
        await self._gone(warm.container, warm.control)

    async def remove(self, container: str) -> None:
        """The same for one that an earlier agent made, by its id."""
        control = next((path for path in self._controls.iterdir() if _owner(path) == container), None)
        await self._gone(container, control)

    # inside

    async def _gone(self, container: str, control: Path | None) -> None:
        await self.engine.remove(container)
        if control is not None:
            await asyncio.to_thread(shutil.rmtree, control, ignore_errors=True)

    def _plan(self, name: str, image: ImageInfo, keeper: Keeper, kind: Kind, control: Path) -> Plan:
        command = tuple(layout.keeper_command(keeper.python))
        binds = (Bind(self._programs, layout.PROGRAMS), Bind(control, layout.CONTROL))
        own = keeper.python or keeper.shell
        return Plan(
            name=f"rgrid-{self.engine.runner}-{name}",
            image=image,
            command=command if own else (*brought.COMMAND, *command[1:]),
            network=self._network() if kind.network else NO_NETWORK,
            binds=binds if own else (*binds, Bind(self._brought, brought.SEEN)),
            gpus=kind.gpus,
            env={} if own else brought.ENV,
        )

    async def _look(self, image: ImageInfo) -> Keeper:
        """Find out by the image's files; an interpreter is also asked whether it is new enough."""
        programs = await self.engine.programs(image, ("python3", "sh", "env"))
        python = programs.get("python3", "")
        if python:
            try:
                code, _ = await self.engine.output(image, python, "-I", "-S", "-c", _NEW_ENOUGH)
            except BackendError as error:
                log.info("the interpreter of %s cannot be used: %s", image.name, error.message)
                code = 1
            python = "" if code else python
        return Keeper(python, "env" in programs and programs.get("sh", "") in {"/bin/sh", "/usr/bin/sh"})


def _owner(control: Path) -> str:
    """The id of the container that has this control directory."""
    try:
        return (control / ".container").read_text()
    except OSError:
        return ""


def _ended_at_once(kind: Kind) -> BackendError:
    return BackendError(f"A container of {kind.image} ended as soon as it was started.", FailureClass.INFRASTRUCTURE)
