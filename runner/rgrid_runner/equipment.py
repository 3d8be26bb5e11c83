"""What a runner works with, by its backend: wired here, opened by the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rgrid_runner import nvml
from rgrid_runner.backends.base import Backend
from rgrid_runner.gpus import Gpus
from rgrid_runner.host import resources
from rgrid_runner.interpreters import discover
from rgrid_runner.runtimes import HostRuntimes, Runtimes
from rgrid_runner.settings import VARIABLES, Settings
from rgrid_runner.usage import Meter
from rgrid_runner.workbench import HostBench, Workbench
from rgrid_shared.errors import UsageError


@dataclass(frozen=True, slots=True)
class Equipment:
    """``bench``: where dependencies are installed. ``env``: the runner's own environment."""

    backend: Backend
    runtimes: Runtimes
    bench: Workbench
    gpus: Gpus
    meter: Meter
    env: Mapping[str, str]


async def equip(settings: Settings, env: Mapping[str, str]) -> Equipment:
    """Everything that ``settings.backend`` asks for. UsageError: a setting is wrong."""
    library = await asyncio.to_thread(nvml.connect)
    found = await asyncio.to_thread(library.found) if library else []
    gpus = Gpus(nvml.chosen(found, env) if library else None, settings.gpu_shares)
    backend, runtimes, bench = await _on(settings, env)
    return Equipment(backend, runtimes, bench, gpus, Meter(library), env)


async def _on(settings: Settings, env: Mapping[str, str]) -> tuple[Backend, Runtimes, Workbench]:
    shops = settings.state / "layers" / "shops"
    if settings.backend == "process":
        from rgrid_runner.backends.process import ProcessBackend

        interpreters = await asyncio.to_thread(discover, settings.runtimes, settings.state / "interpreters.json")
        return ProcessBackend(settings.state / "backend"), HostRuntimes(interpreters), HostBench(shops, env)
    if settings.backend == "docker":
        return _containers(settings, env, shops)
    raise UsageError(f"There is no backend {settings.backend!r}", hint=VARIABLES["RGRID_RUNNER_BACKEND"])


def _containers(settings: Settings, env: Mapping[str, str], shops: Path) -> tuple[Backend, Runtimes, Workbench]:
    """Imported only here: a runner of processes has no use for the engine's SDK."""
    from rgrid_runner import image_runtimes, runtimes
    from rgrid_runner.backends.docker import DockerBackend
    from rgrid_runner.boxed_bench import BoxedBench
    from rgrid_runner.containers import network
    from rgrid_runner.containers import settings as containers

    memory = resources(settings.state)["memory"]
    backend = DockerBackend(
        settings.state / "backend",
        containers.from_env(env, host_memory=memory, slots=settings.slots),
        network.ContainerNetwork(network.from_env(env)),
        slots=settings.slots,
    )
    offered = image_runtimes.ImageRuntimes(backend.engine, runtimes.from_env(env), settings.state / "images.json")
    return backend, offered, BoxedBench(shops, backend, env)
