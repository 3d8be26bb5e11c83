"""What a process does by itself, over and over: sweep, promote, archive, tidy."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from rgrid_api.blobs.janitor import Janitor
from rgrid_api.layers.janitor import LayerJanitor
from rgrid_api.logs.archiver import Archiver
from rgrid_api.queue.promoter import Promoter
from rgrid_api.queue.sweeper import Sweeper
from rgrid_api.services import Services
from rgrid_shared.errors import RgridError

log = logging.getLogger(__name__)

ARCHIVE_S: Final = 30.0
JANITOR_S: Final = 300.0
ABANDONED_S: Final = 24 * 3600.0
"""An upload that was opened this long ago is never completed: its URLs lived a quarter of an hour."""
STOP_S: Final = 5.0
RETRY_S: Final = 5.0
PASSING: Final = (SQLAlchemyError, OSError, TimeoutError, RgridError)
"""What the database or the store being away looks like: said once, tried again."""


@dataclass(frozen=True, slots=True)
class Loop:
    """``run_once`` every ``every_s`` seconds, first after one such pause."""

    name: str
    every_s: float
    run_once: Callable[[], Awaitable[object]]


def loops_of(services: Services) -> list[Loop]:
    """Every loop of the control plane. Each is safe to run in any number of processes."""
    settings, database = services.settings, services.database
    sweeper = Sweeper(database, settings.timing, boot_time_s)
    return [
        Loop("promoter", settings.timing.promote_s, Promoter(database).run_once),
        Loop("sweeper", settings.timing.sweep_s, sweeper.run_once),
        Loop(
            "archiver",
            ARCHIVE_S * settings.time_scale,
            Archiver(database, services.store, after_s=settings.log_archive_after_s).run_once,
        ),
        Loop("janitor", JANITOR_S, Janitor(database, services.store, after_s=ABANDONED_S).run_once),
        Loop("layer janitor", JANITOR_S, LayerJanitor(database, services.store, after_s=ABANDONED_S).run_once),
    ]


def boot_time_s() -> float:
    """Seconds since boot, counting those that the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@asynccontextmanager
async def background(loops: list[Loop]) -> AsyncIterator[None]:
    """Run these loops until the block ends; each finishes what it is at."""
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(_run(loop, stopping), name=loop.name) for loop in loops]
    try:
        yield
    finally:
        stopping.set()
        _, late = await asyncio.wait(tasks, timeout=STOP_S) if tasks else (set(), set())
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(loop: Loop, stopping: asyncio.Event) -> None:
    pause_s = loop.every_s
    failing = False
    while not await _stops_within(stopping, pause_s):
        try:
            await loop.run_once()
        except PASSING as error:
            if not failing:
                log.warning("the %s cannot work: %s; it tries again", loop.name, error)
            failing, pause_s = True, max(loop.every_s, RETRY_S)
        else:
            if failing:
                log.info("the %s works again", loop.name)
            failing, pause_s = False, loop.every_s


async def _stops_within(stopping: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return False
    return True
