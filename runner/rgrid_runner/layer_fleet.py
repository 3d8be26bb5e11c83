"""Layers of the whole fleet: who builds one, and the archive by which the others get it.

Leave to build is a short lease, renewed while the work goes on: it spares work and is no lock. Two runners that build
the same layer all the same do no harm; the first archive stays. Without an API that knows of layers, or with a store
that does not answer, a runner builds for itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from rgrid_runner.archive import BadArchive, Packed
from rgrid_runner.control import Control
from rgrid_runner.objects import PIECE, ObjectGone, ObjectStore, UrlRefused
from rgrid_shared.errors import RgridError
from rgrid_shared.layer_protocol import LayerAnswer, LayerArchive, LayerQuery
from rgrid_shared.protocol import Upload

P = ParamSpec("P")
T = TypeVar("T")

log: Final = logging.getLogger("rgrid.runner")
_PARTS: Final = 4
_TRIES: Final = 2
_GIVE_UP_S: Final = 2.0


class Lease:
    """Leave to build a layer for all, renewed until ``end`` or ``give_up``."""

    def __init__(self, control: Control, query: LayerQuery, every_s: float) -> None:
        self._control = control
        self._query = query
        self._task = asyncio.create_task(self._renew(every_s), name=f"lease {query['key'][:12]}")

    async def _renew(self, every_s: float) -> None:
        with suppress(RgridError):  # without it others build too, which does no harm
            while True:
                await asyncio.sleep(every_s)
                await self._control.layer_find(self._query)

    def end(self) -> None:
        """The layer is published."""
        self._task.cancel()

    async def give_up(self) -> None:
        """It will not be, so that others need not wait. Takes a moment at most; then the lease runs out by itself."""
        self._task.cancel()
        with suppress(RgridError, TimeoutError):
            async with asyncio.timeout(_GIVE_UP_S):
                await self._control.layer_give_up({"key": self._query["key"]})


class Fleet:
    """The API and the store, as far as layers are concerned.

    ``share``: False tells the API what is in a layer, for those who ask later, and neither fetches nor gives any.
    """

    def __init__(self, control: Control, store: ObjectStore, pool: ThreadPoolExecutor, *, share: bool = True) -> None:
        self._control = control
        self._share = share
        self._store = store
        self._pool = pool

    async def ask(self, query: LayerQuery, waiting: Callable[[], None] = lambda: None) -> LayerAnswer | None:
        """Wait until the layer has an archive or is this runner's to build; None if it is this runner's affair alone.

        ``waiting`` is called once if another runner builds it.
        """
        said = False
        while True:
            try:
                answer = await self._control.layer_find({**query, "share": self._share})
            except RgridError as error:
                log.warning("Layer %s is built for this runner alone: %s", query["key"][:12], error.message)
                return None
            if not self._share:
                return None
            if answer["archive"] is not None or answer["build"]:
                return answer
            if not said:
                waiting()
                said = True
            await asyncio.sleep(answer["retry_s"])

    def lease(self, query: LayerQuery, answer: LayerAnswer) -> Lease:
        """Keep the leave to build that ``answer`` gave."""
        return Lease(self._control, query, answer["lease_s"] / 3)

    async def fetch(self, query: LayerQuery, archive: LayerArchive, target: Path) -> bool:
        """Bring the archive into the file ``target``, verified; False if it cannot be had. OSError: the disk."""
        last = ""
        for _ in range(_TRIES):
            try:
                await self._thread(self._get, archive, target)
            except UrlRefused as error:
                last = error.message
                again = await self.ask(query)
                if again is None or again["archive"] is None:
                    return False
                archive = again["archive"]
            except (BadArchive, ObjectGone) as error:
                last = str(error)
            except RgridError as error:
                log.warning("The archive of layer %s cannot be fetched: %s", query["key"][:12], error.message)
                return False
            else:
                return True
        await self.refuse(query["key"], archive["sha256"], last)
        return False

    def _get(self, archive: LayerArchive, target: Path) -> None:
        state = hashlib.sha256()
        with target.open("wb") as file:

            def sink(piece: memoryview) -> None:
                state.update(piece)
                file.write(piece)

            self._store.get(archive["url"], 0, archive["size"], sink)
        if state.hexdigest() != archive["sha256"]:
            raise BadArchive("its bytes are not those that were published")

    async def refuse(self, key: str, sha256: str, reason: str) -> None:
        """Say that an archive is bad: in the log, and to the API, which drops it."""
        log.warning("The archive of layer %s is refused: %s. It is built anew", key[:12], reason)
        with suppress(RgridError):
            await self._control.layer_refuse({"key": key, "sha256": sha256, "reason": reason[:500]})

    async def publish(self, key: str, archive: Path, packed: Packed) -> None:
        """Store an archive and make it known, unless another runner was first. RgridError; OSError: the disk."""
        place = (await self._control.layer_place({"key": key, "size": packed.size}))["upload"]
        if place is None:
            return
        etags = await self._put(archive, packed.size, place)
        answer = await self._control.layer_publish(
            {
                "key": key,
                "object_key": place["key"],
                "etags": etags if place["multipart"] else [],
                "sha256": packed.sha256,
                "unpacked": packed.unpacked,
            }
        )
        log.info("Layer %s: %s", key[:12], "archived" if answer["accepted"] else "another runner's archive was first")

    async def _put(self, archive: Path, size: int, place: Upload) -> list[str]:
        """Store all parts, a few at a time; their etags."""
        step = place["part_size"] or size
        gate = asyncio.Semaphore(_PARTS)

        async def one(number: int, url: str) -> str:
            start = number * step
            length = min(step, size - start)
            async with gate:
                return await self._thread(self._store.put, url, length, partial(_pieces, archive, start, length))

        tasks = [asyncio.ensure_future(one(number, url)) for number, url in enumerate(place["urls"])]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args, **kwargs))


def _pieces(path: Path, start: int, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start, os.SEEK_SET)
        while size:
            piece = file.read(min(size, PIECE))
            if not piece:
                raise OSError(f"{path} became shorter while it was stored")
            yield piece
            size -= len(piece)
