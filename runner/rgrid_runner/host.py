"""What this host has: cores, memory, disk; and its clock that goes on through sleep."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rgrid_shared.protocol import Gpu, HostResources

_BOOTTIME: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def boottime() -> float:
    """Seconds on the clock that also counts while the host sleeps (Linux; elsewhere the monotonic clock)."""
    return time.clock_gettime(_BOOTTIME)


def utc_now() -> datetime:
    """The wall clock in UTC."""
    return datetime.now(UTC)


def wire_time(moment: datetime) -> str:
    """``moment`` (aware) as the wire writes times: RFC 3339, UTC, microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def wire_time_us(at_us: int) -> str:
    """Microseconds since 1970 as the wire writes times."""
    seconds, micros = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06}Z"


def free_disk(path: Path) -> int:
    """Bytes that may still be written below ``path``."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def resources(state: Path, gpus: Sequence[Gpu] = ()) -> HostResources:
    """What the host has in all: cores that this process may use, memory within its cgroup, disk of ``state``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    stat = os.statvfs(state)
    return {"cpu_millis": 1000 * cores, "memory": _memory(), "disk": stat.f_blocks * stat.f_frsize, "gpus": list(gpus)}


def _memory() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _CGROUP_LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def platform_name() -> str:
    """Machine, system and C library, as layer keys name them: ``x86_64-linux-glibc2.36``."""
    library, version = platform.libc_ver()
    return f"{platform.machine()}-{platform.system().lower()}-{library or 'libc'}{version}"
