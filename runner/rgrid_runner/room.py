"""What all executions of a runner share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from rgrid_runner.backends.base import Backend
from rgrid_runner.blob_cache import BlobCache
from rgrid_runner.control import Control
from rgrid_runner.fetch import Fetcher
from rgrid_runner.finisher import Finisher
from rgrid_runner.gpus import Gpus
from rgrid_runner.layers import Layers
from rgrid_runner.log_shipper import LogShipper
from rgrid_runner.outputs import Uploader
from rgrid_runner.record import Records
from rgrid_runner.runtimes import Runtimes
from rgrid_runner.settings import Settings
from rgrid_runner.usage import Meter
from rgrid_runner.workspace import Place

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Room:
    """The parts of a runner, wired by ``rgrid_runner.agent``. ``host_env``: the runner's own environment."""

    settings: Settings
    control: Control
    backend: Backend
    cache: BlobCache
    fetcher: Fetcher
    uploader: Uploader
    layers: Layers
    gpus: Gpus
    meter: Meter
    runtimes: Runtimes
    shipper: LogShipper
    finisher: Finisher
    records: Records
    pool: ThreadPoolExecutor
    host_env: Mapping[str, str]

    @property
    def work(self) -> Path:
        """Where the directories of all attempts are."""
        return self.settings.state / "work"

    def place(self, key: str) -> Place:
        """The directories of one attempt."""
        return Place(self.work / key)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks (disk, hashing) in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(function, *args, **kwargs))
