"""Inputs from the object store into the cache (or a place of one's own), verified by hash on the way.

Small blobs that lie close together in one object come by one request; large ones by several ranges at once, hashed
while they arrive. Two executions that need one blob fetch it once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from rgrid_runner.blob_cache import BlobCache
from rgrid_runner.control import backoff_s
from rgrid_runner.objects import ObjectGone, ObjectStore, UrlRefused
from rgrid_runner.outcome import AttemptFailed
from rgrid_shared.errors import RgridError, Unreachable
from rgrid_shared.protocol import BlobUrl, BlobUrlsReply
from rgrid_shared.states import FailureClass

GROUP_BYTES: Final = 8 * 1024 * 1024
GAP_BYTES: Final = 64 * 1024
LARGE_BYTES: Final = 64 * 1024 * 1024
RANGE_BYTES: Final = 16 * 1024 * 1024
PARALLEL: Final = 8
RANGES: Final = 4
STRIKES: Final = 2
PATIENCE_S: Final = 300.0
_WRONG: Final = "its bytes do not have this hash"

P = ParamSpec("P")
T = TypeVar("T")
Renew = Callable[[list[str]], Awaitable[BlobUrlsReply]]


@dataclass(frozen=True, slots=True)
class Get:
    """One request: ``size`` bytes at ``offset`` of the object behind ``url``, and the blobs that lie in them."""

    url: str
    offset: int
    size: int
    blobs: tuple[BlobUrl, ...]


def plan(blobs: Iterable[BlobUrl]) -> list[Get]:
    """The requests that bring these blobs: neighbours in one object together, up to ``GROUP_BYTES``."""
    gets: list[Get] = []
    group: list[BlobUrl] = []
    for blob in sorted(blobs, key=lambda blob: (blob["url"].partition("?")[0], blob["offset"], blob["size"])):
        if group and not _joins(group, blob):
            gets.append(_get(group))
            group = []
        group.append(blob)
    if group:
        gets.append(_get(group))
    return gets


def _joins(group: list[BlobUrl], blob: BlobUrl) -> bool:
    first = group[0]
    end = max(member["offset"] + member["size"] for member in group[-8:])
    return (
        first["url"].partition("?")[0] == blob["url"].partition("?")[0]
        and blob["offset"] - end <= GAP_BYTES
        and max(end, blob["offset"] + blob["size"]) - first["offset"] <= GROUP_BYTES
    )


def _get(group: list[BlobUrl]) -> Get:
    start = group[0]["offset"]
    end = max(blob["offset"] + blob["size"] for blob in group)
    return Get(group[0]["url"], start, end - start, tuple(group))


class Fetcher:
    """Brings blobs for all executions of a runner."""

    def __init__(self, store: ObjectStore, cache: BlobCache, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._cache = cache
        self._pool = pool
        self._gate = asyncio.Semaphore(PARALLEL)
        self._coming: dict[str, asyncio.Future[None]] = {}

    async def fetch(
        self, needed: Mapping[str, int], places: Iterable[BlobUrl], renew: Renew, own: Mapping[str, Path]
    ) -> None:
        """Make every blob of ``needed`` (hash → size, none of size 0) present: in the cache, or at its path in ``own``.

        ``places``: where they may be; ``renew`` asks for fresh places. AttemptFailed: INPUT if the store does not hold
        the right bytes, INFRASTRUCTURE if it cannot be reached for ``PATIENCE_S`` seconds. OSError: the disk.
        """
        known = {place["sha256"]: place for place in places}
        while True:
            missing = await self._run(self._missing, needed, own)
            if not missing:
                return
            mine = [sha256 for sha256 in missing if sha256 in own or sha256 not in self._coming]
            if mine:
                await self._bring(mine, known, renew, own)
                if len(mine) == len(missing):
                    return
            others = [self._coming[sha256] for sha256 in missing if sha256 in self._coming]
            if others:
                await asyncio.wait(others)

    def _missing(self, needed: Mapping[str, int], own: Mapping[str, Path]) -> list[str]:
        return [
            sha256
            for sha256, size in needed.items()
            if not (own[sha256].exists() if sha256 in own else self._cache.holds(sha256, size))
        ]

    async def _bring(self, wanted: list[str], known: dict[str, BlobUrl], renew: Renew, own: Mapping[str, Path]) -> None:
        shared = [sha256 for sha256 in wanted if sha256 not in own]
        done = asyncio.get_running_loop().create_future()
        self._coming.update(dict.fromkeys(shared, done))
        try:
            await self._rounds(wanted, known, renew, own)
        finally:
            for sha256 in shared:
                del self._coming[sha256]
            done.set_result(None)

    async def _rounds(
        self, wanted: list[str], known: dict[str, BlobUrl], renew: Renew, own: Mapping[str, Path]
    ) -> None:
        strikes: Counter[str] = Counter()
        waited, unreachable = 0.0, 0
        while wanted:
            if unplaced := [sha256 for sha256 in wanted if sha256 not in known]:
                known |= await self._fresh(unplaced, renew)
            jobs = [self._one(get, known, renew, own) for get in plan([known[sha256] for sha256 in wanted])]
            failed = {sha256: error for part in await asyncio.gather(*jobs) for sha256, error in part.items()}
            wanted = list(failed)
            down = next((error for error in failed.values() if isinstance(error, Unreachable)), None)
            for sha256, error in failed.items():
                if not isinstance(error, Unreachable):
                    strikes[sha256] += 1
                    del known[sha256]
            if bad := [sha256 for sha256 in wanted if strikes[sha256] >= STRIKES]:
                raise _failure(bad, failed[bad[0]])
            if down is not None:
                pause = backoff_s(unreachable)
                unreachable, waited = unreachable + 1, waited + pause
                if waited > PATIENCE_S:
                    raise AttemptFailed(FailureClass.INFRASTRUCTURE, f"Inputs cannot be fetched: {down.message}")
                await asyncio.sleep(pause)

    async def _fresh(self, wanted: list[str], renew: Renew) -> dict[str, BlobUrl]:
        reply = await renew(wanted)
        if reply["missing"]:
            raise _bad_input(reply["missing"], "is missing from the store")
        return {place["sha256"]: place for place in reply["blobs"]}

    async def _one(
        self, get: Get, known: dict[str, BlobUrl], renew: Renew, own: Mapping[str, Path]
    ) -> dict[str, RgridError]:
        """Do one request; what went wrong, by hash."""
        sha256 = get.blobs[0]["sha256"]
        try:
            if get.size > LARGE_BYTES:
                await self._large(sha256, get.size, known, renew, own.get(sha256))
                return {}
            async with self._gate:
                return await self._run(self._small, get, own)
        except (Unreachable, UrlRefused, ObjectGone) as error:
            return {blob["sha256"]: error for blob in get.blobs}

    def _small(self, get: Get, own: Mapping[str, Path]) -> dict[str, RgridError]:
        """Fetch and sort out one group: in memory, at most ``GROUP_BYTES``; a single larger blob goes by a file."""
        if get.size > GROUP_BYTES:
            return self._streamed(get, own.get(get.blobs[0]["sha256"]))
        buffer = bytearray()
        self._store.get(get.url, get.offset, get.size, buffer.extend)
        wrong: dict[str, RgridError] = {}
        with memoryview(buffer) as view:
            for blob in get.blobs:
                start = blob["offset"] - get.offset
                with view[start : start + blob["size"]] as piece:
                    if hashlib.sha256(piece).hexdigest() != blob["sha256"]:
                        wrong[blob["sha256"]] = ObjectGone(_WRONG)
                    elif blob["sha256"] in own:
                        own[blob["sha256"]].write_bytes(piece)
                    else:
                        self._cache.admit_bytes(blob["sha256"], piece)
        return wrong

    def _streamed(self, get: Get, own: Path | None) -> dict[str, RgridError]:
        sha256 = get.blobs[0]["sha256"]
        arriving = self._cache.new_file() if own is None else own.with_suffix(".part")
        state = hashlib.sha256()
        try:
            with arriving.open("wb", buffering=0) as file:

                def sink(piece: memoryview) -> None:
                    state.update(piece)
                    file.write(piece)

                self._store.get(get.url, get.offset, get.size, sink)
            return self._keep(sha256, get.size, state.hexdigest(), arriving, own)
        finally:
            arriving.unlink(missing_ok=True)

    def _keep(self, sha256: str, size: int, found: str, arriving: Path, own: Path | None) -> dict[str, RgridError]:
        if found != sha256:
            return {sha256: ObjectGone(_WRONG)}
        if own is None:
            self._cache.admit(sha256, size, arriving)
        else:
            arriving.replace(own)
        return {}

    async def _large(self, sha256: str, size: int, known: dict[str, BlobUrl], renew: Renew, own: Path | None) -> None:
        """Fetch one blob by ``RANGES`` ranges at a time; it is hashed in order as they arrive."""
        arriving = self._cache.new_file() if own is None else own.with_suffix(".part")
        starts = range(0, size, RANGE_BYTES)
        arrived = [asyncio.get_running_loop().create_future() for _ in starts]
        turns = iter(enumerate(starts))
        state = hashlib.sha256()
        file = os.open(arriving, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

        async def bring() -> None:
            for number, start in turns:
                length = min(RANGE_BYTES, size - start)
                await self._range(file, start, length, sha256, known, renew)
                arrived[number].set_result(None)

        async def digest() -> None:
            for number, start in enumerate(starts):
                await arrived[number]
                await self._run(_hash_range, file, start, min(RANGE_BYTES, size - start), state)

        try:
            await self._run(_reserve, file, size)
            async with asyncio.TaskGroup() as group:
                group.create_task(digest())
                for _ in range(RANGES):
                    group.create_task(bring())
            wrong = self._keep(sha256, size, state.hexdigest(), arriving, own)
            if wrong:
                raise wrong[sha256]
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            os.close(file)
            arriving.unlink(missing_ok=True)

    async def _range(
        self, file: int, start: int, length: int, sha256: str, known: dict[str, BlobUrl], renew: Renew
    ) -> None:
        waited, tries, refused = 0.0, 0, 0
        while True:
            place = known[sha256]
            try:
                async with self._gate:
                    await self._run(self._into, file, place, start, length)
            except UrlRefused:
                refused += 1
                if refused > STRIKES:
                    raise
                if known[sha256] is place:
                    known |= await self._fresh([sha256], renew)
            except Unreachable:
                pause = backoff_s(tries)
                tries, waited = tries + 1, waited + pause
                if waited > PATIENCE_S:
                    raise
                await asyncio.sleep(pause)
            else:
                return

    def _into(self, file: int, place: BlobUrl, start: int, length: int) -> None:
        position = start

        def sink(piece: memoryview) -> None:
            nonlocal position
            while piece:
                written = os.pwrite(file, piece, position)
                position += written
                piece = piece[written:]

        self._store.get(place["url"], place["offset"] + start, length, sink)

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))


def _reserve(file: int, size: int) -> None:
    """Take the disk space at once: a full disk is better known before a gigabyte than after."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def _hash_range(file: int, start: int, length: int, state: hashlib._Hash) -> None:
    while length:
        piece = os.pread(file, min(length, 1024 * 1024), start)
        state.update(piece)
        start, length = start + len(piece), length - len(piece)


def _failure(bad: list[str], error: RgridError) -> AttemptFailed:
    """A refused URL says nothing about the blob: that is the grid's fault, and the blob stays as it is."""
    if isinstance(error, UrlRefused):
        return AttemptFailed(FailureClass.INFRASTRUCTURE, f"Inputs cannot be fetched: {error.message}")
    return _bad_input(bad, f"cannot be had from the store: {error.message}")


def _bad_input(bad: list[str], why: str) -> AttemptFailed:
    what = f"Input {bad[0][:12]}…" if len(bad) == 1 else f"Input {bad[0][:12]}… (and {len(bad) - 1} more)"
    return AttemptFailed(FailureClass.INPUT, f"{what} {why}. Submit again to upload it anew.", bad_blobs=tuple(bad))


def _first(group: BaseExceptionGroup) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
