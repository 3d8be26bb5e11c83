"""What a runner with containers is told by its environment, beside what every runner is (``rgrid_runner.settings``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rgrid_runner.settings import GIB, number

MIB: Final = 1024 * 1024
_LEAST_MEMORY: Final = 256 * MIB
_RESERVE: Final = 16
"""One part in so many of the host's memory is left to the host."""

VARIABLES: Final[dict[str, str]] = {
    "RGRID_RUNNER_DISK_BYTES": "Space for the files of a script that names none; default 10 GiB",
    "RGRID_RUNNER_MEMORY_BYTES": "Memory of a script that names none; default: an equal share for each slot",
    "RGRID_RUNNER_TMP_BYTES": "Size of /tmp, which counts as memory; default 1 GiB",
    "RGRID_RUNNER_SHM_BYTES": "Size of /dev/shm, which counts as memory; default 1 GiB",
    "RGRID_RUNNER_PIDS": "Most processes and threads of a script; default 4096",
    "RGRID_RUNNER_SPARE": "Warm containers that wait for a runtime in use; default 1",
    "RGRID_RUNNER_IDLE_S": "Seconds after which a runtime counts as unused; default 300",
}


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """Sizes in bytes. ``memory``: the limit of a script that names none."""

    disk: int
    memory: int
    tmp: int
    shm: int
    pids: int
    spare: int
    idle_s: float


def from_env(env: Mapping[str, str], *, host_memory: int, slots: int) -> ContainerSettings:
    """Read the settings. UsageError names the variable that is wrong. ``host_memory``: bytes of this host."""
    share = max(_LEAST_MEMORY, (host_memory - host_memory // _RESERVE) // slots)

    def whole(name: str, default: int, least: int) -> int:
        return number(env, f"RGRID_RUNNER_{name}", default, int, least=least, meaning=VARIABLES[f"RGRID_RUNNER_{name}"])

    return ContainerSettings(
        disk=whole("DISK_BYTES", 10 * GIB, 64 * MIB),
        memory=whole("MEMORY_BYTES", share, 16 * MIB),
        tmp=whole("TMP_BYTES", GIB, MIB),
        shm=whole("SHM_BYTES", GIB, MIB),
        pids=whole("PIDS", 4096, 16),
        spare=whole("SPARE", 1, 0),
        idle_s=float(whole("IDLE_S", 300, 1)),
    )
