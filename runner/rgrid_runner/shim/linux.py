"""What only Linux has. Elsewhere it does nothing."""

from __future__ import annotations

import sys

IS_LINUX = sys.platform == "linux"

_PR_SET_CHILD_SUBREAPER = 36

if IS_LINUX:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    _prctl = libc.prctl


def become_subreaper() -> None:
    """Become the parent of every orphan among one's descendants, so that none escapes by a double fork."""
    if IS_LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def oom_kills() -> int:
    """How many processes the kernel has killed for lack of memory since boot; 0 if it does not say."""
    try:
        with open("/proc/vmstat", "rb") as file:  # noqa: PTH123
            _, _, rest = file.read().partition(b"\noom_kill ")
    except OSError:
        return 0
    return int(rest.split(b"\n", 1)[0] or 0)


def disk_bytes(pid: int, task: int = 0) -> tuple[int, int]:
    """Bytes that a process and all children that it has collected read from and wrote to disks; (0, 0) if it is gone.

    What is written counts when it is written, not when the kernel gets round to it, and what lies on a tmpfs does
    not. With ``task``: of that one thread alone, without any children.
    """
    path = f"/proc/{pid}/task/{task}/io" if task else f"/proc/{pid}/io"
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            values = dict(line.split(b": ") for line in file.read().splitlines())
    except OSError:
        return 0, 0
    return int(values[b"read_bytes"]), int(values[b"write_bytes"])


def _boot_id() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return b""


BOOT_ID = _boot_id()
"""A name for the time since the host was started; empty if it has none."""
