"""The parts' log files: appended to by the parts themselves, kept small by the supervisor."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LIMIT_BYTES = 8 << 20


def open_for_append(path: Path) -> int:
    """A descriptor whose writes always go to the end, also after the file was cut."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def keep_small(path: Path, limit: int = LIMIT_BYTES) -> bool:
    """Move a file's content to ``NAME.1`` once it is over ``limit`` bytes; True if it was.

    The parts hold the file open, so it is copied and cut, never renamed.
    """
    try:
        if path.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int = 5) -> str:
    """The last lines of a log, at most 8 KiB; empty if there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])
