"""Scripts in containers of this host's Docker engine.

A run's container was started before it was needed (``containers/pool.py``), its disk is a file system of its own
(``containers/volumes.py``), and a shim brings the two together and holds the script, as it holds any other. What an
agent that was killed left is put in order by the next: containers whose shims go on stay, with the disks of attempts
that are not cleared yet; every other container of this runner is removed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final, Protocol

from rgrid_runner.backends import spool
from rgrid_runner.backends.base import LOST_AFTER_S, BackendError, Image, StartOrder
from rgrid_runner.backends.shimmed import ShimBackend
from rgrid_runner.containers.box import Boxes, Warm
from rgrid_runner.containers.engine import Engine
from rgrid_runner.containers.layout import UID
from rgrid_runner.containers.pool import Pool
from rgrid_runner.containers.settings import ContainerSettings
from rgrid_runner.containers.stock import Kind
from rgrid_runner.containers.volumes import Volumes
from rgrid_runner.shim.order import Order
from rgrid_runner.shim.place import Place
from rgrid_shared.states import FailureClass

log: Final = logging.getLogger("rgrid.runner")


class Network(Protocol):
    """What scripts that may have a network are put on (``containers.network.ContainerNetwork``)."""

    def require(self) -> str:
        """The engine's name of it. BackendError while it must not be used."""
        ...

    async def open(self) -> None:
        """Make it ready."""
        ...

    async def keep(self) -> None:
        """Keep it so, until cancelled."""
        ...


class _NotUp(BackendError):
    """Nothing was started: the container was not as it should be."""


class DockerBackend(ShimBackend):
    """Runs scripts in containers. ``directory`` belongs to one runner; ``slots``: how many runs there are at a time."""

    name: ClassVar[str] = "docker"
    owner = UID

    def __init__(
        self,
        directory: Path,
        settings: ContainerSettings,
        network: Network,
        *,
        slots: int,
        lost_after_s: float = LOST_AFTER_S,
    ) -> None:
        super().__init__(directory, lost_after_s=lost_after_s)
        directory = directory.absolute()
        self.engine = Engine(hashlib.sha256(os.fsencode(directory)).hexdigest()[:12])
        self._settings = settings
        self._network = network
        self._boxes = Boxes(directory, self.engine, network.require)
        self._pool = Pool(self._boxes, slots=slots, spare=settings.spare, idle_s=settings.idle_s)
        self._volumes = Volumes(
            directory / "disks", owner=UID, default=settings.disk, spare=min(2, slots), most=2 * slots
        )
        self._held: dict[str, Warm] = {}
        self._of_earlier: dict[str, str] = {}
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> list[str]:
        """See ``Backend.open``. UsageError if this host cannot have containers, BackendError if no engine answers."""
        try:
            await self.engine.check()
            keys = await super().open()
            await self._boxes.open(set(self._of_earlier.values()))
            await self._volumes.open()
            await self._network.open()
        except BaseException:
            await super().close(abandon=True)
            await self.engine.close()
            raise
        self._keeping = asyncio.get_running_loop().create_task(self._network.keep())
        self._pool.open()
        return keys

    async def start(self, order: StartOrder) -> datetime:
        """See ``Backend.start``."""
        try:
            return await super().start(order)
        except _NotUp:  # it died, or was killed, between the pool's look at it and its use
            return await super().start(order)

    async def image(self, reference: str, say: Callable[[str], None]) -> Image | None:
        """See ``Backend.image``. What an id names never changes: the engine is asked for it once."""
        if reference.startswith("sha256:"):
            found = await self._boxes.image(reference)
        else:
            found = await self.engine.image(reference, say)
        return Image(found.id, found.env)

    async def prewarm(self, image: str, *, network: bool = True) -> None:
        """Have containers of this image (an id) ready. BackendError."""
        await self._boxes.keeper(image)
        self._pool.expect(Kind(image, network))

    async def prepare(self, directory: Path, disk: int) -> None:
        """See ``Backend.prepare``: a file system of its own."""
        await self._volumes.get(directory, disk)

    async def clear(self, directory: Path) -> None:
        """See ``Backend.clear``."""
        await self._volumes.put(directory)

    async def close(self, *, abandon: bool) -> None:
        """See ``Backend.close``."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        await super().close(abandon=abandon)
        await self._pool.close(abandon=abandon)
        await self._volumes.close()
        self._held.clear()
        await self.engine.close()

    # what ``ShimBackend`` asks for

    async def _enter(self, order: StartOrder) -> Place | None:
        box = order.box
        if box is None:
            raise ValueError(f"{order.key} does not say what container it wants")
        if box.network:
            self._network.require()  # the rules may have been lost since a warm container was made
        warm = await self._pool.get(Kind(box.image, box.network, box.gpus), box.batch, alone=box.isolate)
        self._held[order.key] = warm
        return Place(
            name=warm.container.encode(),
            control=os.fsencode(warm.control),
            keeper=warm.pid,
            root=os.fsencode(warm.merged),
            mounts=[(os.fsencode(mount.source), os.fsencode(mount.target), mount.writable) for mount in box.mounts],
            tmp=box.tmp or self._settings.tmp,
            shm=box.shm or self._settings.shm,
            pids=self._settings.pids,
            cpu_millis=order.cpu_millis,
            warm=box.warm and bool(warm.keeper.python),
            shell=not warm.keeper.python,
        )

    def _leave(self, key: str, *, reusable: bool) -> None:
        if warm := self._held.pop(key, None):
            self._pool.put(warm, reusable=reusable)
        elif container := self._of_earlier.pop(key, ""):
            self._in_background(self._remove(container))

    def _adopted(self, held: Mapping[str, spool.Identity]) -> None:
        self._of_earlier = {key: identity.container.name for key, identity in held.items() if identity.container}

    def _order(self, order: StartOrder) -> Order:
        told = super()._order(order)
        told.memory = order.memory or self._settings.memory
        return told

    def _refusal(self, order: StartOrder, code: int, step: str) -> BackendError:
        reason = os.strerror(code)
        if step == "container":
            return _NotUp(f"A container cannot be used: {reason}.", FailureClass.INFRASTRUCTURE)
        if step == "exec" and code == errno.E2BIG:
            return BackendError("The arguments and environment are longer than this host allows.", FailureClass.SCRIPT)
        if step == "exec" and code == errno.ENOENT:
            return BackendError(f"There is no {order.argv[0]} in the image.", FailureClass.INFRASTRUCTURE)
        if step == "spool" and code == errno.ENOSPC:
            return BackendError("The runner's disk is full.", FailureClass.INFRASTRUCTURE)
        what = {"exec": order.argv[0], "cwd": str(order.cwd)}.get(step, step)
        return BackendError(f"The script could not be started: {what}: {reason}.", FailureClass.INFRASTRUCTURE)

    # inside

    async def _remove(self, container: str) -> None:
        try:
            await self._boxes.remove(container)
        except BackendError as error:  # it has nothing that keeps it up; what is left of it the next start removes
            log.warning("container %s is not removed: %s", container[:12], error.message)
