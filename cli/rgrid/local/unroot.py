"""PostgreSQL refuses to run as root: run it as another account that may still reach root's directories.

Used between fork and exec, only when rgrid itself runs as root (a container, a small server). The program keeps one
capability, CAP_DAC_OVERRIDE, so that nothing on the way to the data has to be opened to other users: capabilities(7),
"Ambient capabilities".
"""

from __future__ import annotations

import ctypes
import os
import pwd
import struct
import sys
from collections.abc import Callable

ACCOUNT = "nobody"
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def account() -> tuple[int, int] | None:
    """Uid and gid to run PostgreSQL as, or None if the present user can run it."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(ACCOUNT)
    return entry.pw_uid, entry.pw_gid


def dropper() -> Callable[[], None] | None:
    """A ``preexec_fn`` that leaves root behind, or None if there is nothing to leave.

    Where the system grants no ambient capability the program runs without it, and PostgreSQL itself says which
    path it cannot reach.
    """
    target = account()
    if target is None:
        return None
    uid, gid = target
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    keep = 1 << _CAP_DAC_OVERRIDE
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    sets = ctypes.create_string_buffer(struct.pack("=6I", keep, keep, keep, 0, 0, 0))

    def leave_root() -> None:
        if libc is not None:
            libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        if libc is not None and libc.capset(header, sets) == 0:
            libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)

    return leave_root


def give(path: os.PathLike[str]) -> None:
    """Hand a directory to the account that PostgreSQL runs as."""
    target = account()
    if target is not None:
        os.chown(path, *target)
