"""Bounded disks for workspaces: each a file system of its own in a sparse file, mounted where a run may write.

::

    <directory>/NAME.img     the file, as large as the disk may become
    <directory>/NAME/        its file system, always mounted here; its ``disk`` is bound to the place that asked

``put`` hands a disk back; behind the critical path it is emptied if it holds little, else made anew, and waits for the
next. What an agent left that was killed is told by the kernel's list of mounts alone. A script that fills its disk
sees *No space left on device*, with bytes as with files, and nobody beside it does.

Each file system needs a loop device and root. No journal: after a power failure a workspace is worth nothing anyhow.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers import mounting
from rgrid_runner.files import remove_tree
from rgrid_shared.states import FailureClass

log: Final = logging.getLogger("rgrid.runner")
GIB: Final = 1024**3
DEFAULT_BYTES: Final = 10 * GIB

_OPTIONS: Final = "loop,nosuid,nodev,noatime,noinit_itable"
_DISK: Final = "disk"
"""The directory of a file system that a run gets: ``lost+found`` lies beside it."""
_LEAST: Final = 1024**2
_BYTES_PER_FILE: Final = 16384
"""As mkfs.ext4 has it: 10 GiB hold 655,360 files."""
_LEAST_FILES: Final = 16384
_INODE: Final = 256
_OVERHEAD: Final = 8 * 1024**2
_FEW_FILES: Final = 2000
"""So many are removed in less time than a file system takes to make."""
_FEW_BYTES: Final = 64 * 1024**2
"""A file that took up more of the host's disk is not kept as it is."""
_KEEP_FREE: Final = GIB // 2
"""Below this much free space on the host's disk no new disk is given out: it could not hold what it promises."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One file system. ``bytes``: what a run can write to it, at least; 0 if an earlier agent made it."""

    name: str
    bytes: int


class Volumes:
    """The disks of one runner, below ``directory``.

    ``owner``: user and group id that they belong to. ``default``: bytes of one that is asked for without a size.
    ``spare``: how many of that size are kept ready; ``most``: how many are kept in all when nobody uses them.
    """

    def __init__(
        self, directory: Path, *, owner: int, default: int = DEFAULT_BYTES, spare: int = 2, most: int = 8
    ) -> None:
        self._directory = directory.absolute()
        self._owner = owner
        self._default = default
        self._spare = spare
        self._most = max(most, spare)
        self._idle: list[Volume] = []
        self._used: dict[Path, Volume] = {}
        self._coming = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self) -> None:
        """Remove what an earlier agent left, but for disks that are in use; have spares made.

        UsageError if this host cannot make file systems.
        """
        mounting.program("mkfs.ext4")
        mounting.program("mount")
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(self._take_stock)
        self._refill()

    async def get(self, directory: Path, size: int) -> None:
        """Mount an empty disk of ``size`` bytes (0 for the default) at ``directory``, which is made.

        BackendError (INFRASTRUCTURE) if this host has no room or no loop device for it. ValueError if it has one.
        """
        directory = directory.absolute()
        if directory in self._used:
            raise ValueError(f"{directory} has a disk")
        await self._to_its_end(self._attach(directory, max(_LEAST, size or self._default)))
        self._refill()

    async def put(self, directory: Path) -> None:
        """Take the disk at ``directory`` back with all that is in it, and the directory. No-op if there is neither."""
        await self._to_its_end(self._detach(directory.absolute()))

    def holds(self, directory: Path) -> bool:
        """True if a disk is mounted there."""
        return directory.absolute() in self._used

    async def settle(self) -> None:
        """Until everything is done that goes on in the background."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Remove all that nobody uses. Disks in use stay mounted, for a successor's ``open``."""
        self._closing = True
        await self.settle()
        idle, self._idle = self._idle, []
        for volume in idle:
            await asyncio.to_thread(self._discard, volume)

    # decisions

    def _take(self, size: int) -> Volume | None:
        fitting = next((volume for volume in self._idle if volume.bytes == size), None)
        if fitting is not None:
            self._idle.remove(fitting)
        return fitting

    def _refill(self) -> None:
        ready = sum(volume.bytes == self._default for volume in self._idle) + self._coming
        for _ in range(self._spare - ready):
            self._coming += 1
            self._later(self._add())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self) -> None:
        try:
            self._idle.append(await asyncio.to_thread(self._make, self._default))
        except OSError as error:
            log.warning("no spare disk: %s", error.strerror or error)
        finally:
            self._coming -= 1

    async def _renew(self, volume: Volume, *, clean: bool) -> None:
        """Make a used disk an empty one, or let go of it."""
        try:
            if not clean or not volume.bytes or self._closing or len(self._idle) >= self._most:
                await asyncio.to_thread(self._discard, volume)
            elif await asyncio.to_thread(self._empty, volume):
                self._idle.append(volume)
            else:
                await asyncio.to_thread(self._discard, volume)
                if volume.bytes == self._default:
                    self._idle.append(await asyncio.to_thread(self._make, volume.bytes))
        except OSError as error:
            log.warning("a disk is not used again: %s", error.strerror or error)
        finally:
            self._coming -= 1

    async def _attach(self, directory: Path, size: int) -> None:
        volume = self._take(size)
        try:
            if volume is None:
                volume = await asyncio.to_thread(self._make, size)
            await asyncio.to_thread(self._bind, volume, directory)
        except OSError as error:
            if volume is not None:
                await asyncio.to_thread(self._discard, volume)
            raise BackendError(
                f"The runner cannot make a disk of {size} bytes: {error.strerror or error}.",
                FailureClass.INFRASTRUCTURE,
            ) from error
        self._used[directory] = volume

    async def _detach(self, directory: Path) -> None:
        volume = self._used.pop(directory, None)
        if volume is None:
            await asyncio.to_thread(remove_tree, directory)
            return
        clean = await asyncio.to_thread(self._unbind, directory)
        self._coming += 1
        self._later(self._renew(volume, clean=clean))

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it whole, also if the caller is cancelled meanwhile: a disk that is half mounted would be lost."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    # deeds, in threads

    def _make(self, size: int) -> Volume:
        """A new file system, mounted. OSError."""
        name = secrets.token_hex(4)
        image, place = self._image(name), self._directory / name
        files = max(_LEAST_FILES, size // _BYTES_PER_FILE)
        try:
            with image.open("xb") as file:
                file.truncate(size + files * _INODE + size // 256 + _OVERHEAD)
            mounting.run(
                mounting.program("mkfs.ext4"), "-q", "-F", "-m", "0", "-N", str(files), "-I", str(_INODE),
                "-O", "^has_journal,^resize_inode",
                "-E", f"nodiscard,lazy_itable_init=1,root_owner={self._owner}:{self._owner}", str(image),
            )  # fmt: skip
            place.mkdir(mode=0o700)
            mounting.run(
                mounting.program("mount"), "-t", "ext4", "-o", "loop,nosuid,nodev,noatime,noinit_itable", image, place
            )
            self._fresh(place)
        except OSError:
            self._discard(Volume(name, size))
            raise
        return Volume(name, size)

    def _fresh(self, place: Path) -> None:
        """An empty directory for the next run."""
        (place / _DISK).mkdir(mode=0o755)
        os.chown(place / _DISK, self._owner, self._owner)

    def _bind(self, volume: Volume, directory: Path) -> None:
        """Show the disk at ``directory``."""
        free = os.statvfs(self._directory)
        if free.f_bavail * free.f_frsize < _KEEP_FREE:
            raise OSError(errno.ENOSPC, "the host's own disk is nearly full")
        directory.mkdir(parents=True, exist_ok=True)
        mounting.bind(self._directory / volume.name / _DISK, directory)

    def _unbind(self, directory: Path) -> bool:
        """Take it away from there; False if somebody still uses it, so that it must not be used again."""
        try:
            mounting.unmount(directory)
            clean = True
        except OSError:
            with contextlib.suppress(OSError):
                mounting.unmount(directory, mounting.DETACH)
            clean = False
        remove_tree(directory)
        return clean

    def _empty(self, volume: Volume) -> bool:
        """Remove what a run wrote; False if that is better done by making the disk anew."""
        place = self._directory / volume.name
        held = os.statvfs(place)
        if held.f_files - held.f_ffree > _FEW_FILES or self._image(volume.name).stat().st_blocks * 512 > _FEW_BYTES:
            return False
        try:
            remove_tree(place / _DISK)
        except RecursionError:
            return False  # directories deeper than this interpreter can follow
        self._fresh(place)
        return True

    def _discard(self, volume: Volume) -> None:
        """Unmount and remove a disk, whatever state it is in."""
        place = self._directory / volume.name
        with contextlib.suppress(OSError):
            mounting.unmount(place, mounting.DETACH)
        with contextlib.suppress(OSError):
            place.rmdir()
        self._image(volume.name).unlink(missing_ok=True)

    def _image(self, name: str) -> Path:
        return self._directory / f"{name}.img"

    def _take_stock(self) -> None:
        """Find out by the kernel's mounts what is in use, and remove the rest."""
        mounts = list(mounting.mounts())
        mine = {place.name: device for place, device in mounts if place.parent == self._directory}
        places = {device: place for place, device in mounts if place.parent != self._directory}
        for image in self._directory.glob("*.img"):
            name = image.stem
            device = mine.get(name, "")
            volume = Volume(name, 0)
            place = places.get(device)
            if device and place is not None and place.exists():
                self._used[place] = volume
            else:
                self._discard(volume)
        for place in self._directory.iterdir():
            if place.is_dir() and not self._image(place.name).exists():
                self._discard(Volume(place.name, 0))
