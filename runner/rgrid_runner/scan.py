"""What a script left in its workspace: files that are new or changed, links, empty directories, deletions.

Follows no link and opens nothing: it only looks. What cannot be collected is named with the reason.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from rgrid_runner.workspace import Known
from rgrid_shared.protocol import LeftOut
from rgrid_shared.wire import path_problem

MAX_DEPTH: Final = 64
MAX_LEFT_OUT: Final = 1000
Kind = Literal["file", "dir", "link", "other"]


@dataclass(frozen=True, slots=True)
class Found:
    """One thing in the workspace after the script. ``links``: how many names the file has anywhere."""

    kind: Kind
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    links: int
    target: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to collect.

    ``ino``: names of one file share it. ``shipped``: if the bytes still hash to this, it is unchanged; empty if it
    is an output whatever it holds.
    """

    path: str
    mode: int
    size: int
    ino: int
    shipped: str


@dataclass(slots=True)
class Changes:
    """The difference. ``dirs`` and ``links``: path → mode or target. ``left_out`` holds at most ``MAX_LEFT_OUT``."""

    files: list[Candidate] = field(default_factory=list)
    dirs: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, path: str, reason: str) -> None:
        """Note that ``path`` is not collected."""
        if len(self.left_out) < MAX_LEFT_OUT - 1:
            self.left_out.append({"path": printable(path), "reason": reason})
        elif len(self.left_out) == MAX_LEFT_OUT - 1:
            self.left_out.append({"path": "…", "reason": "and more; the list ends here"})


def printable(path: str) -> str:
    """``path`` as valid Unicode: bytes that are no UTF-8 are shown as escapes."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def walk(root: str, had_modes: Mapping[str, int]) -> tuple[dict[str, Found], list[LeftOut]]:
    """Everything below ``root`` by relative path, parents first; and what lies too deep.

    ``had_modes``: absolute path → mode of directories that were opened up for this look.
    """
    found: dict[str, Found] = {}
    too_deep: list[LeftOut] = []
    pending = [("", 0)]
    while pending:
        parent, depth = pending.pop()
        with os.scandir(f"{root}/{parent}") as entries:
            for entry in entries:
                path = f"{parent}/{entry.name}" if parent else entry.name
                seen = found[path] = _look(entry, had_modes)
                if seen.kind == "dir" and depth + 1 < MAX_DEPTH:
                    pending.append((path, depth + 1))
                elif seen.kind == "dir":
                    too_deep.append({"path": printable(path), "reason": f"more than {MAX_DEPTH} directories deep"})
    return found, too_deep


def _look(entry: os.DirEntry[str], had_modes: Mapping[str, int]) -> Found:
    status = entry.stat(follow_symlinks=False)
    kind: Kind = "other"
    if stat.S_ISREG(status.st_mode):
        kind = "file"
    elif stat.S_ISDIR(status.st_mode):
        kind = "dir"
    elif stat.S_ISLNK(status.st_mode):
        kind = "link"
    return Found(
        kind,
        had_modes.get(entry.path, stat.S_IMODE(status.st_mode)) & 0o777,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_nlink,
        os.readlink(entry.path) if kind == "link" else "",  # noqa: PTH115
    )


def compare(
    before: Mapping[str, Known], after: Mapping[str, Found], *, root: str, max_files: int, max_bytes: int
) -> Changes:
    """What the script changed. Pure but for resolving the targets of links, which may pass through other links."""
    changes = Changes()
    names = Counter(seen.ino for seen in after.values() if seen.kind == "file")
    total = 0
    for path in sorted(after):
        seen, was = after[path], before.get(path)
        if _is_bytecode(path) or seen.kind == "dir" or (was is not None and _same(was, seen)):
            continue
        if problem := path_problem(path):
            changes.leave_out(path, f"its name {problem}")
        elif seen.kind == "other":
            changes.leave_out(path, "is a pipe, socket or device")
        elif len(changes.files) + len(changes.links) >= max_files:
            changes.leave_out(path, f"more than {max_files:,} files")
        elif seen.kind == "link":
            _add_link(changes, path, seen.target, root)
        elif seen.links > names[seen.ino]:
            changes.leave_out(path, "is a hard link to a file outside of the workspace")
        elif total + seen.size > max_bytes:
            changes.leave_out(path, f"more than {max_bytes:,} bytes in all")
        else:
            total += seen.size
            shipped = was.sha256 if was is not None and not _written(was, seen) else ""
            changes.files.append(Candidate(path, seen.mode, seen.size, seen.ino, shipped))
    changes.deleted = [path for path, was in before.items() if path not in after or after[path].kind != was.kind]
    _add_dirs(changes, before, after)
    return changes


def _same(was: Known, seen: Found) -> bool:
    if was.kind == "link":
        return seen.kind == "link" and seen.target == was.target
    return (was.kind, was.mode, was.size, was.mtime_ns, was.ctime_ns, was.ino) == (
        seen.kind,
        seen.mode,
        seen.size,
        seen.mtime_ns,
        seen.ctime_ns,
        seen.ino,
    )


def _written(was: Known, seen: Found) -> bool:
    """True for a file that was written, if only with its old bytes: an item's result may equal what was there."""
    return (was.kind, was.mode, was.size, was.mtime_ns, was.ino) != (
        seen.kind,
        seen.mode,
        seen.size,
        seen.mtime_ns,
        seen.ino,
    )


def _is_bytecode(path: str) -> bool:
    """True for what Python itself leaves beside imported modules; the next interpreter makes its own."""
    parent, _, name = path.rpartition("/")
    return (parent == "__pycache__" or parent.endswith("/__pycache__")) and ".pyc" in name


def _add_link(changes: Changes, path: str, target: str, root: str) -> None:
    here = os.path.dirname(f"{root}/{path}")  # noqa: PTH120
    real_root = os.path.realpath(root)
    resolved = os.path.realpath(os.path.join(here, target))  # noqa: PTH118
    if resolved != real_root and not resolved.startswith(f"{real_root}/"):
        changes.leave_out(path, "is a link out of the workspace")
        return
    if target.startswith("/"):
        target = os.path.relpath(resolved, os.path.realpath(here))
    if printable(target) != target:
        changes.leave_out(path, "is a link whose target is not valid UTF-8")
        return
    changes.links[path] = target


def _add_dirs(changes: Changes, before: Mapping[str, Known], after: Mapping[str, Found]) -> None:
    holding: set[str] = set()
    for path in (*(file.path for file in changes.files), *changes.links):
        parent = path.rpartition("/")[0]
        while parent and parent not in holding:
            holding.add(parent)
            parent = parent.rpartition("/")[0]
    for path in sorted(after):
        seen, was = after[path], before.get(path)
        if seen.kind != "dir" or path_problem(path) or path.rpartition("/")[2] == "__pycache__":
            continue
        if was is not None and was.kind == "dir":
            wanted = seen.mode != was.mode
        else:
            wanted = path not in holding or seen.mode != 0o755
        if wanted:
            # A directory that takes files must let its owner in, whatever it looked like in the end.
            changes.dirs[path] = seen.mode | 0o700 if path in holding else seen.mode
