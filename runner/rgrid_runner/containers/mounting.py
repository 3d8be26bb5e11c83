"""Mounting on this host: by system call where it must be quick, by the host's own tools where they know better."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rgrid_shared.errors import UsageError

DETACH: Final = 2
"""``MNT_DETACH``: take it from the tree now, let go when nobody uses it."""
_BIND: Final = 4096
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
_libc: Final = ctypes.CDLL(None, use_errno=True)


def program(name: str) -> str:
    """Where a program of the host is. UsageError if it is not."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    if found is None:
        raise UsageError(f"The docker backend needs {name} on this host.", hint="Install e2fsprogs and util-linux.")
    return found


def run(*command: str | Path) -> None:
    """Run a program; OSError with the last line of what it says if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise OSError(errno.EIO, said[-1])


def bind(source: Path, target: Path) -> None:
    """Show the directory ``source`` at ``target`` too. OSError."""
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, _BIND, None):
        raise OSError(number := ctypes.get_errno(), os.strerror(number), os.fspath(target))


def unmount(target: Path, flags: int = 0) -> None:
    """Take away what is mounted at ``target``. OSError."""
    if _libc.umount2(os.fsencode(target), flags):
        raise OSError(number := ctypes.get_errno(), os.strerror(number), os.fspath(target))


def mounts() -> Iterator[tuple[Path, str]]:
    """Where this process sees mounts, and of which devices."""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split()
        place = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), fields[4])
        yield Path(os.fsdecode(place)), fields[2].decode()
