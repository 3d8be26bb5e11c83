"""Small files written so that a reader sees the old bytes or the new ones, never half; trees that must go."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any


def write_json(path: Path, document: object, *, mode: int = 0o600) -> None:
    """Write ``document`` in place of ``path`` in one step. Survives the death of this process, not of the host."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "w") as file:
        json.dump(document, file, separators=(",", ":"))
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """The document at ``path``, or None if it is missing or not whole."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def remove_tree(path: Path) -> None:
    """Remove ``path`` and all below it, also directories closed by their owner (mode 000). OSError if it stays."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if os.path.lexists(path):
            shutil.rmtree(path)
    except PermissionError:
        open_tree(path)
        shutil.rmtree(path)


def open_tree(path: Path) -> dict[str, int]:
    """Give the owner all rights on every directory from ``path`` down that lacks them; the modes they had.

    Keys are ``os.fspath`` names; links are not followed.
    """
    had: dict[str, int] = {}
    pending = [os.fspath(path)]
    while pending:
        name = pending.pop()
        mode = stat.S_IMODE(os.lstat(name).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            had[name] = mode
            os.chmod(name, mode | stat.S_IRWXU)  # noqa: PTH101
        with os.scandir(name) as entries:
            pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return had
