"""Making a layer: uv installs it in a shop, it goes on the shelf in one step, its bytecode is compiled later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rgrid_runner.archive import BadArchive, Caps, pack, unpack
from rgrid_runner.files import read_json, remove_tree
from rgrid_runner.layer_shelf import Shelf, measure
from rgrid_runner.outcome import AttemptFailed
from rgrid_runner.resolving import Resolution, Target
from rgrid_runner.uv import Uv
from rgrid_runner.workbench import Shop, Workbench
from rgrid_shared.layer_keys import pin
from rgrid_shared.layer_protocol import LayerQuery
from rgrid_shared.states import FailureClass

log: Final = logging.getLogger("rgrid.runner")
COMPILED: Final = "compiled"
"""A file in a layer whose bytecode is there."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A ready environment. ``key``: its name; ``path``: its directory; ``seen``: that as scripts see it."""

    key: str
    path: Path
    seen: str


@dataclass(frozen=True, slots=True)
class Order:
    """A layer to be made."""

    layer: Layer
    resolution: Resolution
    target: Target

    @property
    def query(self) -> LayerQuery:
        """The layer, as the fleet is asked for it."""
        return {
            "key": self.layer.key,
            "project_id": self.resolution.scope,
            "lock": list(self.resolution.lock),
            "interpreter": self.target.python.full_name,
        }


class Builder:
    """Builds layers for a shelf. ``archives``: a directory for files on their way; ``most``: bytes of a layer."""

    def __init__(
        self, bench: Workbench, uv: Uv, shelf: Shelf, archives: Path, most: int, clock: Callable[[], float]
    ) -> None:
        self._bench = bench
        self._uv = uv
        self._shelf = shelf
        self._archives = archives
        self._most = most
        self._clock = clock

    async def build(self, order: Order) -> None:
        """Build it in a shop, and put it on the shelf."""
        key, target = order.layer.key, order.target
        staging, name = self._shelf.staging(key), f"build-{key}"
        began = self._clock()
        async with self._bench.shop(order.resolution.scope, target.image) as shop:
            building = shop.place / name
            try:
                await asyncio.to_thread(remove_tree, building)
                await self._uv.environment(shop, name, target.python.path)
                await self._install(shop, name, order.resolution)
                if shop.walled:
                    await asyncio.to_thread(self._through_the_wall, building, staging)
                else:
                    building.rename(staging)
            except BadArchive as error:
                raise AttemptFailed(FailureClass.DEPENDENCIES, f"What was built cannot be kept: {error}.") from error
            finally:
                await asyncio.to_thread(remove_tree, building)
        size = await asyncio.to_thread(measure, staging)
        self._shelf.put(staging, key, size, {**self.meta(order), "built_in_s": round(self._clock() - began, 3)})

    async def _install(self, shop: Shop, name: str, resolution: Resolution) -> None:
        lock, terms = resolution.lock, resolution.terms
        if not lock:
            return
        if not (resolution.fresh or shop.walled):
            try:
                await self._uv.install(shop, name, lock, terms, offline=True)
            except AttemptFailed:
                log.debug("not all packages are in uv's cache")
            else:
                return
        await self._uv.install(shop, name, lock, terms, offline=False)

    def _through_the_wall(self, building: Path, staging: Path) -> None:
        """Package code made this: it comes out as an archive does, with nothing in it but files and links inside."""
        file = self._archives / f"{staging.name}.tar.zst"
        try:
            packed = pack(building, file)
            unpack(file, staging, Caps(min(self._most, packed.unpacked)))
        finally:
            file.unlink(missing_ok=True)

    def meta(self, order: Order) -> dict[str, object]:
        """What is noted of a layer, beside its size."""
        return {
            "interpreter": order.target.python.full_name,
            "python": order.target.python.path,
            "image": order.target.image,
            "platform": order.target.platform,
            "scope": order.resolution.scope,
            "packages": [pin(line) for line in order.resolution.lock],
            "built_at": self._clock(),
        }

    async def compile(self, layer: Layer) -> None:
        """Files that do not compile (templates, other versions) do not matter. No code of the packages runs."""
        meta = read_json(layer.path / "meta.json")
        command = (meta["python"], "-I", "-S", "-m", "compileall", "-q", f"{layer.seen}/lib")
        await self._bench.tend(layer.path, meta["image"], command)
        (layer.path / COMPILED).touch()
        self._shelf.grown(layer.key, await asyncio.to_thread(measure, layer.path))
