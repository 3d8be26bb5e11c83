"""Warm containers: made ahead of need, used by one batch at most, gone when nobody needs them. ``Stock`` decides.

A container is held by what this process has open (``Warm``): when the agent dies, those that are idle end by
themselves, and those with a run in them end with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers.box import Warm
from rgrid_runner.containers.stock import Kind, Stock

log: Final = logging.getLogger("rgrid.runner")
MAKING: Final = 2
"""So many are made at a time in the background. More get slower, not faster."""
_AFTER_FAILURE_S: Final = 10.0
_CLOSE_S: Final = 20.0


class Maker(Protocol):
    """What the pool needs of ``Boxes``."""

    async def make(self, kind: Kind) -> Warm:
        """A container that is up. BackendError."""
        ...

    async def unmake(self, warm: Warm) -> None:
        """Remove it. BackendError."""
        ...


class _Waiter:
    def __init__(self, kind: Kind, batch: str, *, alone: bool) -> None:
        self.kind = kind
        self.batch = batch
        self.alone = alone
        self.got: asyncio.Future[Warm] = asyncio.get_running_loop().create_future()


class Pool:
    """The warm containers of one runner. ``slots``: how many runs there are at a time; see ``Stock`` for the rest."""

    def __init__(
        self,
        boxes: Maker,
        *,
        slots: int,
        spare: int = 1,
        idle_s: float = 300.0,
        batch_idle_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._boxes = boxes
        self._clock = clock
        self._stock = Stock(slots=slots, spare=spare, idle_s=idle_s, batch_idle_s=batch_idle_s, limit=2 * slots + spare)
        self._warm: dict[str, Warm] = {}
        self._making: Counter[Kind] = Counter()
        self._waiters: deque[_Waiter] = deque()
        self._not_before: dict[Kind, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._closing = False

    def open(self) -> None:
        """Begin to keep containers ready."""
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def get(self, kind: Kind, batch: str, *, alone: bool = False) -> Warm:
        """A container for one run: one that served this batch, else a fresh one. BackendError if none can be made.

        ``alone``: a fresh one that nobody uses again. Give it back with ``put``.
        """
        while name := self._stock.choose(kind, batch, alone=alone):
            if self._warm[name].alive:
                return self._taken(name, batch, alone=alone)
            self._lost(name)
        waiter = _Waiter(kind, batch, alone=alone)
        self._waiters.append(waiter)
        try:
            self._serve_waiters()
            return await waiter.got
        except asyncio.CancelledError:
            if waiter.got.done() and not waiter.got.cancelled() and waiter.got.exception() is None:
                self.put(waiter.got.result(), reusable=True)
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def put(self, warm: Warm, *, reusable: bool) -> None:
        """The run is over. ``reusable``: the container is as it was before."""
        kept = self._stock.give_back(warm.container, self._clock(), reusable=reusable and warm.alive)
        if kept:
            self._hand_over(warm.container)
        else:
            self._discard(warm.container)
        self._news.set()

    def expect(self, kind: Kind) -> None:
        """Have some ready of this kind: it is going to be asked for."""
        self._stock.expect(kind, self._clock())
        self._news.set()

    async def run_once(self, now: float) -> float | None:
        """Start making what is lacking and remove what is over; when to look again, None for when there is news."""
        plan = self._stock.plan(now, self._making, MAKING)
        for name in plan.remove:
            self._discard(name)
        for kind in plan.make:
            if now >= self._not_before.get(kind, now):
                self._make(kind)
        blocked = [at for at in self._not_before.values() if at > now]
        return min((at for at in (plan.again_at, *blocked) if at is not None), default=None)

    async def settle(self) -> None:
        """Until nothing is being made or removed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self, *, abandon: bool) -> None:
        """Let go of all containers: idle ones end. Without ``abandon``, wait until they are removed."""
        self._closing = True
        if self._loop:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        for waiter in self._waiters:
            waiter.got.cancel()
        for task in self._tasks if abandon else ():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)
        for name, warm in list(self._warm.items()):
            idle = not self._stock.is_busy(name)
            if abandon or not idle:
                warm.let_go()
            else:
                self._discard(name)
        self._warm.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)

    # inside

    async def _run(self) -> None:
        while True:
            self._news.clear()
            again_at = await self.run_once(self._clock())
            try:
                async with asyncio.timeout(None if again_at is None else max(0.0, again_at - self._clock())):
                    await self._news.wait()
            except TimeoutError:
                pass  # it is time

    def _taken(self, name: str, batch: str, *, alone: bool) -> Warm:
        self._stock.take(name, batch, self._clock(), alone=alone)
        self._news.set()
        return self._warm[name]

    def _serve_waiters(self) -> None:
        """See that one is being made for each who waits."""
        needed = Counter(waiter.kind for waiter in self._waiters)
        for kind, count in needed.items():
            for _ in range(count - self._making[kind]):
                if crowded := self._stock.make_room(sum(self._making.values())):
                    self._discard(crowded)
                self._make(kind)

    def _hand_over(self, name: str) -> None:
        """Give an idle container to the first who waits for one like it."""
        warm = self._warm[name]
        for waiter in self._waiters:
            if waiter.kind != warm.kind or waiter.got.done():
                continue
            if self._stock.choose(waiter.kind, waiter.batch, alone=waiter.alone) == name:
                waiter.got.set_result(self._taken(name, waiter.batch, alone=waiter.alone))
                self._waiters.remove(waiter)
                return

    def _make(self, kind: Kind) -> None:
        self._making[kind] += 1
        self._later(self._made(kind))

    async def _made(self, kind: Kind) -> None:
        try:
            warm = await self._boxes.make(kind)
        except BackendError as error:
            self._making[kind] -= 1
            self._failed(kind, error)
            return
        except BaseException:
            self._making[kind] -= 1
            raise
        self._making[kind] -= 1
        self._warm[warm.container] = warm
        self._stock.add(warm.container, kind, self._clock())
        if self._closing:
            self._discard(warm.container)
            return
        warm.on_death(lambda: self._lost(warm.container))
        self._hand_over(warm.container)
        self._news.set()

    def _failed(self, kind: Kind, error: BackendError) -> None:
        """Tell one who waits; else leave it for a while."""
        waiter = next((waiter for waiter in self._waiters if waiter.kind == kind and not waiter.got.done()), None)
        if waiter is not None:
            waiter.got.set_exception(error)
            self._waiters.remove(waiter)
        else:
            log.warning("no container is ready: %s", error.message)
            self._not_before[kind] = self._clock() + _AFTER_FAILURE_S

    def _lost(self, name: str) -> None:
        """It died while nobody used it, or in a run, which learns that from its shim and puts it back."""
        if name in self._warm and not self._stock.is_busy(name):
            log.warning("container %s died", name[:12])
            self._discard(name)
            self._news.set()

    def _discard(self, name: str) -> None:
        self._stock.drop(name)
        if warm := self._warm.pop(name, None):
            self._later(self._unmade(warm))

    async def _unmade(self, warm: Warm) -> None:
        try:
            await self._boxes.unmake(warm)
        except BackendError as error:  # it ended by itself; what is left of it the next start removes
            log.warning("container %s is not removed: %s", warm.container[:12], error.message)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
