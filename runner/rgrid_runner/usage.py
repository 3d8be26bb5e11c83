"""How busy GPUs were and how much of their memory was in use, for each execution that has some."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rgrid_runner.nvml import Look, Nvml
from rgrid_shared.protocol import Gpu

EVERY_S: Final = 2.0
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class GpuUse:
    """``percent``: mean over time and GPUs. ``memory``: the most bytes in use on all GPUs together at one moment.

    Both are the GPUs' own numbers: where one is shared they count all that share it.
    """

    percent: int = 0
    memory: int = 0


class Meter:
    """Looks at all GPUs in use every two seconds, from one thread; at none while none is in use.

    An execution that was shorter than that, or was not seen since its start, has what was seen.
    """

    def __init__(self, nvml: Nvml | None) -> None:
        """``nvml``: None on a host without GPUs."""
        self._nvml = nvml
        self._sums: dict[str, _Sum] = {}
        self._used = asyncio.Event()

    def begin(self, key: str, gpus: Sequence[Gpu]) -> None:
        """``key`` uses these from now on. No-op without GPUs, or if it was said before."""
        uuids = tuple(gpu["uuid"] for gpu in gpus if "uuid" in gpu)
        if uuids and self._nvml is not None:
            self._sums.setdefault(key, _Sum(uuids))
            self._used.set()

    def end(self, key: str) -> GpuUse:
        """``key`` does not use its GPUs any more; what they did for it."""
        total = self._sums.pop(key, None)
        if not self._sums:
            self._used.clear()
        return GpuUse() if total is None else total.use()

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self._used.wait()
            await asyncio.sleep(EVERY_S)
            await self.run_once()

    async def run_once(self) -> None:
        """One look at every GPU that is in use."""
        nvml, sums = self._nvml, list(self._sums.values())
        if nvml is None or not sums:
            return
        uuids = {uuid for each in sums for uuid in each.uuids}
        looks = await asyncio.to_thread(lambda: {uuid: look for uuid in uuids if (look := nvml.look(uuid))})
        for each in sums:
            each.add([looks[uuid] for uuid in each.uuids if uuid in looks])


@dataclass(slots=True)
class _Sum:
    """What was seen of one execution's GPUs."""

    uuids: tuple[str, ...]
    looks: int = 0
    percent: int = 0
    memory: int = 0

    def add(self, looks: Sequence[Look]) -> None:
        self.looks += len(looks)
        self.percent += sum(look.percent for look in looks)
        self.memory = max(self.memory, sum(look.memory for look in looks))

    def use(self) -> GpuUse:
        return GpuUse(round(self.percent / self.looks) if self.looks else 0, self.memory)
