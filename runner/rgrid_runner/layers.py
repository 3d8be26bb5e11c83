"""Dependency layers: environments named by the hash of everything that decides what is in them.

What requirements come to is installed once, into a directory that is complete when its name appears, and shared by all
executions: of this host by the directory, of the fleet by its archive. A second run asks no uv at all. What does not
hold up a script (bytecode, the archive) is done behind its start.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from rgrid_runner.archive import BadArchive, Caps, pack, unpack
from rgrid_runner.backends.base import Image
from rgrid_runner.files import remove_tree
from rgrid_runner.host import platform_name
from rgrid_runner.interpreters import Interpreter
from rgrid_runner.layer_building import COMPILED, Builder, Layer, Order
from rgrid_runner.layer_fleet import Fleet, Lease
from rgrid_runner.layer_shelf import Shelf
from rgrid_runner.outcome import AttemptFailed, from_os
from rgrid_runner.resolving import Ask, Resolution, Resolver, Target, check_python
from rgrid_runner.uv import Uv
from rgrid_runner.workbench import Workbench
from rgrid_shared.errors import RgridError
from rgrid_shared.layer_keys import layer_key
from rgrid_shared.layer_protocol import LayerArchive
from rgrid_shared.specs import Requirements
from rgrid_shared.states import FailureClass

__all__ = ["Layer", "Layers"]

log: Final = logging.getLogger("rgrid.runner")
BUDGET: Final = 20 * 1024**3
_LOCK_POLL_S: Final = 0.1
_START_PATIENCE_S: Final = 10.0
"""What is done behind a script's start is done after this long in any case."""
_NAME: Final = re.compile(r"[\s\[(;@=<>!~]")
Say = Callable[[str], None]


class Layers:
    """All layers of a runner, below ``root``. ``budget``: bytes kept at most, but for those in use."""

    def __init__(
        self,
        root: Path,
        bench: Workbench,
        uv: Uv,
        *,
        fleet: Fleet | None = None,
        budget: int = BUDGET,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._bench = bench
        self._uv = uv
        self._fleet = fleet
        self._budget = budget
        self._clock = clock
        self._platform = platform_name()
        self._working: dict[str, asyncio.Task[None]] = {}
        self._behind: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        self._shelf = Shelf(root / "ready", budget, clock)
        self._resolver = Resolver(root / "resolved", bench, uv, self._once, clock)
        self._builder = Builder(bench, uv, self._shelf, root / "archives", budget, clock)
        self._locks = root / "locks"
        self._archives = root / "archives"
        for directory in (self._locks, self._archives):
            directory.mkdir(parents=True, exist_ok=True)

    async def open(self) -> None:
        """At the start, after the backend's ``open``: remove what an earlier agent left half-done."""
        await self._bench.open(self._budget)
        await asyncio.to_thread(self.prune)

    def prune(self) -> None:
        """Remove half-made layers and archives, and resolutions that are out of date."""
        self._shelf.prune()
        self._resolver.prune()
        for path in self._archives.iterdir():
            path.unlink(missing_ok=True)

    async def ensure(
        self,
        wanted: Requirements,
        python: Interpreter,
        project_id: str,
        say: Say,
        *,
        holder: str,
        image: Image | None = None,
        given: Mapping[str, str] | None = None,
    ) -> Layer:
        """The layer for ``wanted``, made now if nobody has before; ``say`` tells the user so.

        It stays until ``release(holder)``. ``image``: what the script runs in, None on the host. ``given``: the
        batch's environment values, which addresses of packages may name. AttemptFailed: DEPENDENCIES with the
        resolver's words; INFRASTRUCTURE if index or disk is the trouble.
        """
        check_python(wanted, python)
        platform = self._platform if image is None else self._platform.rpartition("-")[0]
        ask = Ask(wanted, Target(python, image.id if image else "", platform), project_id, given or {})
        resolution = await self._resolver.resolve(ask, say)
        try:
            return await self._get(resolution, ask.target, holder, say)
        except AttemptFailed as error:
            other = self._resolver.with_code(ask, resolution)
            if other is None or error.failure is not FailureClass.DEPENDENCIES:
                raise
        return await self._get(other, ask.target, holder, say)

    def hold(self, key: str, holder: str) -> None:
        """``holder`` uses this layer, as an attempt does that was taken over."""
        self._shelf.hold(key, holder)

    def release(self, holder: str) -> None:
        """``holder`` uses no layer any more."""
        self._shelf.release(holder)

    def started(self, layer: Layer) -> None:
        """A script runs on ``layer``: what was left for later may be done behind it."""
        if layer.key in self._behind:
            self._behind[layer.key][0].set()
        elif self._shelf.has(layer.key) and not (layer.path / COMPILED).exists():
            self._finish_behind(layer, None)
            self._behind[layer.key][0].set()

    async def run_once(self, now: float) -> int:
        """Remove what is over the budget or was not used for long; how many layers went. Called after each new one."""
        gone = self._shelf.take_surplus(now)
        for path in gone:
            log.info("Layer %s makes room", path.name.removeprefix(".gone-")[:12])
            with suppress(OSError):  # the next start tries again
                await asyncio.to_thread(remove_tree, path)
        return len(gone)

    async def close(self) -> None:
        """Stop what goes on in the background; unfinished layers are removed at the next start."""
        tasks = [*self._working.values(), *(task for _, task in self._behind.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- making one ----------------------------------------------------------------------------------------------

    async def _get(self, resolution: Resolution, target: Target, holder: str, say: Say) -> Layer:
        key = layer_key(
            lock="\n".join(resolution.lock),
            interpreter=target.python.full_name,
            path=target.python.path,
            image=target.image,
            platform=target.platform,
            accelerator=self._uv.accelerator,
            scope=resolution.scope,
        )
        path = self._shelf.path(key)
        layer = Layer(key, path, self._bench.seen(path))
        self._shelf.hold(key, holder)
        if not self._shelf.has(key):
            say(f"Installing {_count(resolution.lock)}…")
            order = Order(layer, resolution, target)
            await self._once(key, lambda: self._make(order, say))
        self._shelf.used(key)
        return layer

    async def _make(self, order: Order, say: Say) -> None:
        """Bring or build it; one at a time on this host for each key. AttemptFailed."""
        key = order.layer.key
        with (self._locks / key).open("w") as gate:
            # Another process may hold it, and nobody could signal us.
            while not _locked(gate.fileno()):  # noqa: ASYNC110
                await asyncio.sleep(_LOCK_POLL_S)
            try:
                lease = await self._bring_or_build(order, say)
            except OSError as error:
                raise from_os(error, "installing requirements") from error
            finally:
                await asyncio.to_thread(remove_tree, self._shelf.staging(key))
        if lease is not None or not (order.layer.path / COMPILED).exists():
            self._finish_behind(order.layer, lease)
        await self.run_once(self._clock())

    async def _bring_or_build(self, order: Order, say: Say) -> Lease | None:
        """The lease under which it was built for the fleet, None if it was brought or is for this runner alone."""
        if self._fleet is None:
            await self._builder.build(order)
            return None
        answer = await self._fleet.ask(order.query, lambda: say("Another runner installs them; waiting for it…"))
        if answer is not None and answer["archive"] is not None:
            if await self._bring(order, answer["archive"]):
                return None
            answer = await self._fleet.ask(order.query)
        lease = self._fleet.lease(order.query, answer) if answer is not None and answer["build"] else None
        try:
            await self._builder.build(order)
        except BaseException:
            if lease is not None:
                await asyncio.shield(lease.give_up())
            raise
        return lease

    async def _bring(self, order: Order, archive: LayerArchive) -> bool:
        """Fetch and unpack the fleet's archive; False if it cannot be had or is bad, which was said."""
        assert self._fleet is not None
        key = order.layer.key
        file, staging = self._archives / f"{key}.tar.zst", self._shelf.staging(key)
        try:
            if archive["unpacked"] > self._budget:
                log.warning("Layer %s is built here: its archive is larger than this runner keeps", key[:12])
                return False
            if not await self._fleet.fetch(order.query, archive, file):
                return False
            size = await asyncio.to_thread(unpack, file, staging, Caps(archive["unpacked"]))
            self._shelf.put(staging, key, size, self._builder.meta(order))
        except BadArchive as error:
            await self._fleet.refuse(key, archive["sha256"], str(error))
            return False
        else:
            return True
        finally:
            await asyncio.to_thread(remove_tree, staging)
            file.unlink(missing_ok=True)

    async def _once(self, name: str, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Do ``work`` once for all who ask at the same time; who is cancelled does not stop it for the others."""
        task = self._working.get(name)
        if task is None:
            task = self._working[name] = asyncio.create_task(work(), name=f"layer {name[:12]}")
            task.add_done_callback(lambda done: (self._working.pop(name, None), done.cancelled() or done.exception()))
        await asyncio.shield(task)

    # -- behind a script's start ---------------------------------------------------------------------------------

    def _finish_behind(self, layer: Layer, lease: Lease | None) -> None:
        started = asyncio.Event()
        task = asyncio.create_task(self._finish(layer, lease, started), name=f"finish {layer.key[:12]}")
        self._behind[layer.key] = (started, task)

    async def _finish(self, layer: Layer, lease: Lease | None, started: asyncio.Event) -> None:
        """Compile it and, under a lease, archive it for the fleet, once a script has started on it."""
        holder = f"finish {layer.key}"
        self._shelf.hold(layer.key, holder)
        published = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_START_PATIENCE_S):
                    await started.wait()
            if not (layer.path / COMPILED).exists():
                await self._builder.compile(layer)
            if lease is not None:
                await self._publish(layer)
                published = True
        except (RgridError, OSError) as error:
            log.warning("Layer %s is not archived: %s", layer.key[:12], error)
        finally:
            if lease is not None and published:
                lease.end()
            elif lease is not None:
                await asyncio.shield(lease.give_up())
            self._shelf.release(holder)
            del self._behind[layer.key]

    async def _publish(self, layer: Layer) -> None:
        assert self._fleet is not None
        file = self._archives / f"{layer.key}.tar.zst"
        try:
            packed = await asyncio.to_thread(pack, layer.path, file)
            await self._fleet.publish(layer.key, file, packed)
        finally:
            file.unlink(missing_ok=True)


def _count(lock: Sequence[str]) -> str:
    names = [_NAME.split(line, maxsplit=1)[0] for line in lock]
    listed = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    return f"{len(names)} package{'s' if len(names) != 1 else ''} ({listed})"


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
