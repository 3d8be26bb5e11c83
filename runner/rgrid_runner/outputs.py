"""Outputs from the workspace to the object store: streamed, hashed as they go, never held in memory.

Objects that are stored stay stored while the others are tried again; the caller decides how long.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, ParamSpec, TypeVar

from rgrid_runner.files import open_tree
from rgrid_runner.host import utc_now
from rgrid_runner.objects import PIECE, ObjectStore
from rgrid_runner.packing import PACK_BYTES, Planned, plan
from rgrid_runner.scan import Candidate, Changes, compare, walk
from rgrid_runner.workspace import Known, Place
from rgrid_shared.errors import RgridError
from rgrid_shared.protocol import Manifest, OutputEntry, OutputObject, Upload
from rgrid_shared.wire import EMPTY_SHA256

P = ParamSpec("P")
T = TypeVar("T")
Places = Callable[[list[int]], Awaitable[list[Upload]]]
_PARTS: Final = 4
_OBJECTS: Final = 8
_SOON: Final = timedelta(seconds=30)
_ASK: Final = 500


def collect(place: Place, before: Mapping[str, Known], *, max_files: int, max_bytes: int) -> Changes:
    """What the script left that is new or changed. OSError: the disk.

    A file that was written counts, whatever bytes it now has. One that only its change time tells of (a mode set
    and set back, a time put back) is read, to see whether its bytes are the old ones.
    """
    root = os.fspath(place.root)
    had_modes = open_tree(place.root)
    after, too_deep = walk(root, had_modes)
    changes = compare(before, after, root=root, max_files=max_files, max_bytes=max_bytes)
    changes.left_out = too_deep + changes.left_out
    files = []
    for file in changes.files:
        try:
            if file.shipped and _sha256(f"{root}/{file.path}", file.size) == file.shipped:
                continue
            os.close(_open(f"{root}/{file.path}"))
        except OSError as error:
            changes.leave_out(file.path, f"cannot be read: {error.strerror}")
        else:
            files.append(file)
    changes.files = files
    return changes


@dataclass(slots=True)
class Delivery:
    """The objects of one attempt: ``stored`` by number in ``planned``, ``hashes`` by inode."""

    root: str
    changes: Changes
    planned: list[Planned] = field(default_factory=list)
    stored: dict[int, OutputObject] = field(default_factory=dict)
    hashes: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, place: Place, changes: Changes) -> Delivery:
        """All that is to be stored, nothing of it stored yet."""
        return cls(os.fspath(place.root), changes, plan(changes.files))

    @property
    def missing(self) -> list[int]:
        """Numbers of the objects that are not stored yet."""
        return [number for number in range(len(self.planned)) if number not in self.stored]

    def manifest(self) -> Manifest:
        """The manifest, once nothing is missing."""
        where = {
            packed.file.ino: (number, packed.offset)
            for number, planned in enumerate(self.planned)
            for packed in planned.files
        }
        entries = [_entry(path, "deleted") for path in sorted(self.changes.deleted, reverse=True)]
        entries += [_entry(path, "dir", mode=mode) for path, mode in sorted(self.changes.dirs.items())]
        for file in self.changes.files:
            number, offset = where.get(file.ino, (-1, 0)) if file.size else (-1, 0)
            sha256 = self.hashes[file.ino] if file.size else EMPTY_SHA256
            entries.append(
                _entry(file.path, "file", file.mode, size=file.size, sha256=sha256, number=number, offset=offset)
            )
        entries += [_entry(path, "link", target=target) for path, target in sorted(self.changes.links.items())]
        return {
            "entries": entries,
            "objects": [self.stored[number] for number in range(len(self.planned))],
            "left_out": self.changes.left_out,
        }


def _entry(
    path: str,
    kind: str,
    mode: int = 0,
    *,
    size: int = 0,
    sha256: str = "",
    number: int = -1,
    offset: int = 0,
    target: str = "",
) -> OutputEntry:
    return {
        "path": path,
        "kind": kind,  # type: ignore[typeddict-item]
        "mode": mode,
        "size": size,
        "sha256": sha256,
        "object": number,
        "offset": offset,
        "target": target,
    }


class Uploader:
    """Stores outputs for all executions of a runner."""

    def __init__(self, store: ObjectStore, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool
        self._gate = asyncio.Semaphore(_OBJECTS)

    async def store(self, delivery: Delivery, pack: Upload | None, places: Places) -> RgridError | None:
        """Try to store what is missing; returns what went wrong with one of the objects that still are.

        ``pack``: a place that was given beforehand, for the first object if it fits and its URL is still good.
        ``places`` asks for others. OSError: an output cannot be read.
        """
        targets: dict[int, Upload] = {}
        missing = delivery.missing
        if pack and missing and missing[0] == 0 and _usable(pack, delivery.planned[0].size, utc_now()):
            targets[0] = pack
        unplaced = [number for number in missing if number not in targets]
        for start in range(0, len(unplaced), _ASK):
            numbers = unplaced[start : start + _ASK]
            sizes = [delivery.planned[number].size for number in numbers]
            targets |= dict(zip(numbers, await places(sizes), strict=True))
        results = await asyncio.gather(*(self._one(delivery, number, targets[number]) for number in missing))
        return next((error for error in results if error is not None), None)

    async def _one(self, delivery: Delivery, number: int, target: Upload) -> RgridError | None:
        planned = delivery.planned[number]
        done: OutputObject = {"key": target["key"], "size": planned.size}
        try:
            async with self._gate:
                if target["multipart"]:
                    path, file = f"{delivery.root}/{planned.files[0].file.path}", planned.files[0].file
                    hashing = asyncio.ensure_future(self._run(_sha256, path, file.size))
                    try:
                        done["etags"] = await self._parts(path, file.size, target)
                        delivery.hashes[file.ino] = await hashing
                    finally:
                        hashing.cancel()
                    done["upload_id"] = target["id"]
                else:
                    delivery.hashes |= await self._run(self._whole, delivery.root, planned, target["urls"][0])
        except RgridError as error:
            return error
        delivery.stored[number] = done
        return None

    def _whole(self, root: str, planned: Planned, url: str) -> dict[int, str]:
        hashes: dict[int, str] = {}

        def pieces() -> Iterator[memoryview]:
            hashes.clear()
            return _read(root, planned, hashes)

        self._store.put(url, planned.size, pieces)
        return hashes

    async def _parts(self, path: str, size: int, target: Upload) -> list[str]:
        etags = [""] * len(target["urls"])
        turns = iter(enumerate(target["urls"]))

        async def work() -> None:
            for number, url in turns:
                start = number * target["part_size"]
                etags[number] = await self._run(self._part, path, url, start, min(target["part_size"], size - start))

        workers = [asyncio.ensure_future(work()) for _ in range(_PARTS)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        return etags

    def _part(self, path: str, url: str, start: int, size: int) -> str:
        return self._store.put(url, size, lambda: _slice(path, start, size))

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))


def _usable(pack: Upload, size: int, now: datetime) -> bool:
    return size <= PACK_BYTES and not pack["multipart"] and datetime.fromisoformat(pack["expires_at"]) - now > _SOON


def _read(root: str, planned: Planned, hashes: dict[int, str]) -> Iterator[memoryview]:
    """The object's bytes, small files gathered into larger pieces; fills in ``hashes`` by inode."""
    buffer = memoryview(bytearray(min(PIECE, planned.size)))
    filled = 0
    for packed in planned.files:
        state = hashlib.sha256()
        left = packed.file.size
        file = _open(f"{root}/{packed.file.path}")
        try:
            while left:
                got = os.readv(file, [buffer[filled : filled + left]])
                if not got:
                    raise _shrunk(packed.file)
                state.update(buffer[filled : filled + got])
                filled, left = filled + got, left - got
                if filled == len(buffer):
                    yield buffer
                    filled = 0
        finally:
            os.close(file)
        hashes[packed.file.ino] = state.hexdigest()
    if filled:
        yield buffer[:filled]


def _slice(path: str, start: int, size: int) -> Iterator[bytes]:
    file = _open(path)
    try:
        while size:
            piece = os.pread(file, min(size, PIECE), start)
            if not piece:
                raise OSError(f"{path} became shorter while it was stored")
            yield piece
            start, size = start + len(piece), size - len(piece)
    finally:
        os.close(file)


def _sha256(path: str, size: int) -> str:
    state = hashlib.sha256()
    for piece in _slice(path, 0, size):
        state.update(piece)
    return state.hexdigest()


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _shrunk(file: Candidate) -> OSError:
    return OSError(f"{file.path} became shorter while it was stored")
