"""What reaches the script on stdin: nothing from a terminal, a file's bytes as a blob, a pipe's as a stream."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

_CHUNK: Final = 1 << 20
_PREFIX: Final = "rgrid-stdin-"


def detect(descriptor: int = 0) -> str:
    """``""`` for a terminal, ``/dev/null`` and a closed stdin; ``stream`` for a pipe; ``file:PATH`` for a file.

    A file that was read in part is copied from there on; it is not consumed, so a shell's ``while read`` loop around
    the command goes on.
    """
    try:
        status = os.fstat(descriptor)
    except OSError:
        return ""
    if stat.S_ISREG(status.st_mode):
        offset = os.lseek(descriptor, 0, os.SEEK_CUR)
        if offset >= status.st_size:
            return ""
        return f"file:/dev/fd/{descriptor}" if offset == 0 else f"file:{_rest(descriptor, offset)}"
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        return "stream"
    return ""


def discard(kind: str) -> None:
    """Remove the copy that ``detect`` may have made."""
    path = kind.removeprefix("file:")
    if os.path.basename(path).startswith(_PREFIX) and not path.startswith("/dev/"):
        with suppress(FileNotFoundError):
            os.unlink(path)


def has_data(descriptor: int = 0) -> bool:
    """True if a pipe holds something (or has ended) right now."""
    import select

    try:
        ready, _, _ = select.select([descriptor], [], [], 0)
    except (OSError, ValueError):
        return False
    return bool(ready)


def _rest(descriptor: int, offset: int) -> str:
    import tempfile

    with tempfile.NamedTemporaryFile(prefix=_PREFIX, delete=False) as copy:
        while data := os.pread(descriptor, _CHUNK, offset):
            copy.write(data)
            offset += len(data)
    return copy.name
