"""What a host must be for its engine's containers to be handed to scripts, and where their parts are on it."""

from __future__ import annotations

import os
import platform
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rgrid_runner.backends.base import BackendError
from rgrid_shared.errors import UsageError
from rgrid_shared.states import FailureClass

_KERNEL: Final = (5, 2)
"""``open_tree`` and ``move_mount`` came with it."""
_UNIX: Final = "unix://"
_SOCKET: Final = "unix:///var/run/docker.sock"
_DRIVERS: Final = {"overlay2", "overlayfs", "fuse-overlayfs", "overlay"}


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine is. ``cgroup``: 1 or 2."""

    version: str
    cgroup: int
    driver: str


def check() -> None:
    """UsageError if this host cannot have containers of ours, whatever its engine."""
    if sys.platform != "linux":
        raise UsageError("The docker backend needs Linux.", hint="RGRID_RUNNER_BACKEND=process")
    if os.geteuid() != 0:
        raise UsageError("The docker backend must run as root.", hint="Run rgrid-runner as root, or by systemd.")
    if not _place().startswith(_UNIX):
        raise UsageError(
            f"The Docker engine at {_place()} is not this host's.", hint="DOCKER_HOST=unix:///var/run/docker.sock"
        )
    release = platform.release()
    digits = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    if tuple(digits) < _KERNEL:
        raise UsageError(f"The docker backend needs Linux 5.2 or newer, this is {release}.")


def probe() -> None:
    """OSError if nobody listens where the engine should. Its SDK leaks a socket that cannot connect."""
    with socket.socket(socket.AF_UNIX) as probing:
        probing.connect(_place().removeprefix(_UNIX))


def _place() -> str:
    return os.environ.get("DOCKER_HOST") or _SOCKET


def engine_info(info: Mapping[str, Any]) -> EngineInfo:
    """What the engine says of itself. UsageError if it is not one that can be used."""
    options = " ".join(info.get("SecurityOptions") or ())
    driver = str(info.get("Driver", ""))
    if info.get("OSType") != "linux":
        raise UsageError("The Docker engine does not run Linux containers.")
    if "name=rootless" in options or "name=userns" in options:
        raise UsageError(
            "The Docker engine maps user ids (rootless or userns-remap), which the runner cannot follow.",
            hint="Use an engine that runs as root, without userns-remap.",
        )
    if driver not in _DRIVERS:
        raise UsageError(f"The Docker engine stores images by {driver!r}.", hint="Set its storage driver to overlay2.")
    return EngineInfo(str(info.get("ServerVersion", "")), int(info.get("CgroupVersion") or 1), driver)


def check_sight(pid: int, container: str) -> None:
    """The engine's process numbers must be ours, or we would kill and measure others."""
    try:
        seen = container in Path(f"/proc/{pid}/cgroup").read_text() or _is_container(pid, container)
    except OSError:
        seen = False
    if not seen:
        raise BackendError(
            "A container's processes cannot be seen: the runner does not share the engine's process numbers.",
            FailureClass.INFRASTRUCTURE,
            hint="Run rgrid-runner on the engine's host itself, or in a container with --pid=host --cgroupns=host.",
        )


def _is_container(pid: int, container: str) -> bool:
    """True if the process has the container's files: for cgroups whose names do not tell."""
    return container in Path(f"/proc/{pid}/mountinfo").read_text()


def merged(facts: Mapping[str, Any], pid: int) -> Path:
    """A running container's root on the host: as the engine says, else the mount with the same device number."""
    if told := ((facts.get("GraphDriver") or {}).get("Data") or {}).get("MergedDir"):
        return Path(told)
    inside = {fields[4]: fields[2] for fields in _mounts(Path(f"/proc/{pid}/mountinfo"))}
    for fields in _mounts(Path("/proc/self/mountinfo")):
        if fields[2] == inside.get("/") and fields[3] == "/":
            return Path(fields[4])
    raise BackendError(
        "The root directory of a container is not to be found on this host.", FailureClass.INFRASTRUCTURE
    )


def _mounts(path: Path) -> Iterator[list[str]]:
    return (line.split() for line in path.read_text().splitlines())
