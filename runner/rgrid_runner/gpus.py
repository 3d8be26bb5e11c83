"""GPUs handed out whole: no two executions on one, unless the operator says that it takes several.

At start, in a thread, since the driver may be slow: ``library = nvml.connect()`` and, if there is one,
``found = chosen(library.found(), env)``. ``gpus = Gpus(found, settings.gpu_shares)``. Then, all on the event loop:

* an offer of capacity holds ``gpus.free()``; what was claimed is asked for at once with ``gpus.take(key, resources)``;
* before its script is started, ``await gpus.wait(key)`` gives what it got: all at once in nearly every case;
* the script gets ``visible(taken)`` in its environment if ``gpus.present``, a container is given the UUIDs;
* the attempt's record keeps the UUIDs, and an agent that takes over calls ``gpus.retake(key, uuids)``;
* when nothing of the script runs any more: ``gpus.release(key)``, which may be said again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from rgrid_runner.outcome import AttemptFailed
from rgrid_shared import gpus as rules
from rgrid_shared.protocol import Gpu
from rgrid_shared.specs import Resources
from rgrid_shared.states import FailureClass

log: Final = logging.getLogger("rgrid.runner")
Taken = tuple[Gpu, ...]


class Gpus:
    """The GPUs of a host and who has them. ``shares``: executions on one GPU at a time. Not for several threads."""

    def __init__(self, found: Sequence[Gpu] | None, shares: int = 1) -> None:
        """``found``: None on a host without a driver, where scripts need not be told that they have no GPU."""
        self.found: Final = tuple(found or ())
        self.present: Final = found is not None
        self._shares = shares
        self._taken: dict[str, Taken] = {}
        self._waiting: dict[str, Resources] = {}
        self._placed = asyncio.Event()

    def free(self) -> list[int]:
        """The index of each GPU, as often as it takes further executions; none that somebody waits for."""
        kept, left = self._kept_for(self._waiting), self._left()
        return [gpu["index"] for gpu in self.found if gpu["index"] not in kept for _ in range(left[gpu["index"]])]

    def take(self, key: str, needs: Resources) -> Taken | None:
        """What ``needs`` ask for, for ``key``: the same again if it has it, None if it now waits for its turn."""
        if key not in self._taken and key not in self._waiting:
            if not rules.wanted(needs):
                return ()
            self._waiting[key] = needs
            self._place()
        return self._taken.get(key)

    async def wait(self, key: str) -> Taken:
        """What ``key`` has, once it has it; nothing if it is released meanwhile.

        AttemptFailed if this host could never give it.
        """
        while key in self._waiting:
            needs = self._waiting[key]
            if sum(rules.fits(gpu, needs) for gpu in self.found) < rules.wanted(needs):
                raise AttemptFailed(FailureClass.INFRASTRUCTURE, f"This runner does not have {rules.words(needs)}.")
            self._placed.clear()
            await self._placed.wait()
        return self._taken.get(key, ())

    def retake(self, key: str, uuids: Collection[str]) -> Taken:
        """``key`` has run on these since an earlier agent gave them, even if shares have become fewer since."""
        taken = tuple(gpu for gpu in self.found if gpu.get("uuid") in uuids)
        if len(taken) < len(uuids):
            log.warning("%s has GPUs that are not there any more: %s", key, ", ".join(uuids))
        if taken:
            self._taken[key] = taken
        return taken

    def release(self, key: str) -> None:
        """``key`` needs nothing any more, or does not wait any more. No-op if it is not known."""
        if self._waiting.pop(key, None) is not None:
            self._placed.set()
        self._taken.pop(key, None)
        self._place()

    def _place(self) -> None:
        """Give those who wait what is there, first come first served: nobody gets what an earlier one waits for."""
        still: dict[str, Resources] = {}
        for key, needs in self._waiting.items():
            taken = self._choose(needs, self._kept_for(still))
            if taken is None:
                still[key] = needs
            else:
                self._taken[key] = taken
                self._placed.set()
        self._waiting = still

    def _choose(self, needs: Resources, kept: Collection[int]) -> Taken | None:
        """The least used, then the smallest that fit: what is scarce stays for those who need it."""
        left = self._left()
        fitting = [
            gpu for gpu in self.found if left[gpu["index"]] > 0 and gpu["index"] not in kept and rules.fits(gpu, needs)
        ]
        fitting.sort(key=lambda gpu: (-left[gpu["index"]], gpu["memory"], gpu["index"]))
        count = rules.wanted(needs)
        return tuple(fitting[:count]) if len(fitting) >= count else None

    def _left(self) -> dict[int, int]:
        """How many further executions each GPU takes, by index."""
        used = Counter(gpu["index"] for taken in self._taken.values() for gpu in taken)
        return {gpu["index"]: max(0, self._shares - used[gpu["index"]]) for gpu in self.found}

    def _kept_for(self, waiting: dict[str, Resources]) -> set[int]:
        return {gpu["index"] for gpu in self.found for needs in waiting.values() if rules.fits(gpu, needs)}


def visible(taken: Taken) -> dict[str, str]:
    """What a script's environment says of GPUs: exactly those that it has, none if it asked for none.

    Without this a framework takes the first GPU that it finds, which is somebody else's.
    """
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpu.get("uuid", str(gpu["index"])) for gpu in taken)}
