"""What only Linux has. Elsewhere it does nothing."""

from __future__ import annotations

import sys

IS_LINUX = sys.platform == "linux"

_PR_SET_CHILD_SUBREAPER = 36

if IS_LINUX:
    import ctypes

    _prctl = ctypes.CDLL(None).prctl


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


def _boot_id() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return b""


BOOT_ID = _boot_id()
"""A name for the time since the host was started; empty if it has none."""
