"""The directory that a script runs in: the client's paths rebuilt below their common ancestor.

::

    <state>/work/<execution>.<attempt>/disk/        the backend's to bound: all that the script may write
                                       disk/root/   what the script sees; cwd lies in it
                                       disk/home/   its home, where it has one of its own
                                       disk/own/    large inputs of this item alone, on their way to root
                                       tmp/         its TMPDIR, where there is no /tmp of its own
                                       spool/       the backend's
                                       stdin        if it is a file
                                       before.json  what root held when the script started
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rgrid_runner.blob_cache import BlobCache, copy_file
from rgrid_runner.files import read_json, write_json
from rgrid_runner.outcome import AttemptFailed
from rgrid_shared.specs import Arg, FileRef, Item, Spec, StdinBlob
from rgrid_shared.states import FailureClass
from rgrid_shared.wire import path_problem

OWN_BYTES: Final = 32 * 1024 * 1024
"""An item's file above this size is not kept for others: it goes to its workspace directly."""
_PAST_S: Final = 10


@dataclass(frozen=True, slots=True)
class Place:
    """The directories of one attempt."""

    base: Path

    @property
    def disk(self) -> Path:
        """What the script may write to."""
        return self.base / "disk"

    @property
    def root(self) -> Path:
        """What the script sees."""
        return self.disk / "root"

    @property
    def home(self) -> Path:
        """The script's home in a container."""
        return self.disk / "home"

    @property
    def tmp(self) -> Path:
        """The script's TMPDIR."""
        return self.base / "tmp"

    @property
    def own(self) -> Path:
        """Large inputs on their way."""
        return self.disk / "own"

    @property
    def spool(self) -> Path:
        """The backend's."""
        return self.base / "spool"

    @property
    def stdin(self) -> Path:
        """Stdin as a file."""
        return self.base / "stdin"


@dataclass(frozen=True, slots=True)
class Known:
    """One thing in the workspace as it was before the script ran. ``kind``: ``file``, ``dir`` or ``link``."""

    kind: str
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    sha256: str
    target: str


def check(spec: Spec, item: Item) -> None:
    """AttemptFailed (INPUT) if a path would leave the workspace. The API checks too, but this is our disk."""
    links = set(spec["links"])
    paths = [file["path"] for file in (*spec["files"], *item["files"])]
    for path in (*paths, *spec["dirs"], *links, *([spec["cwd"]] if spec["cwd"] else ())):
        if problem := path_problem(path):
            raise AttemptFailed(FailureClass.INPUT, f"The path {path!r} {problem}")
        if links and any(str(parent) in links for parent in Path(path).parents):
            raise AttemptFailed(FailureClass.INPUT, f"The path {path!r} leads through a link")
    for path, target in spec["links"].items():
        inside = os.path.normpath(os.path.join(os.path.dirname(path), target))  # noqa: PTH118, PTH120
        if target.startswith("/") or inside.startswith("../") or inside == ".." or "\0" in target:
            raise AttemptFailed(FailureClass.INPUT, f"The link {path!r} leads out of the workspace")


def stdin_blob(spec: Spec) -> StdinBlob | None:
    """Stdin if it is a file that holds something."""
    if spec["stdin"] is None or "stream" in spec["stdin"]:
        return None
    return spec["stdin"] if spec["stdin"]["size"] else None


def needed(spec: Spec, item: Item) -> tuple[dict[str, int], set[str]]:
    """The blobs that the workspace needs, hash → size, and those too large to be kept for others."""
    blobs = {file["sha256"]: file["size"] for file in spec["files"] if file["size"]}
    if stdin := stdin_blob(spec):
        blobs[stdin["sha256"]] = stdin["size"]
    of_item = {file["sha256"]: file["size"] for file in item["files"] if file["size"]}
    own = {sha256 for sha256, size in of_item.items() if size > OWN_BYTES and sha256 not in blobs}
    return blobs | of_item, own


def build(
    place: Place, spec: Spec, item: Item, cache: BlobCache, own: Mapping[str, Path], owner: int | None = None
) -> dict[str, Known]:
    """Make ``root`` from verified blobs, links last; returns what is in it. OSError: the disk.

    ``owner``: the user and group id that all of it, and a home, then belong to. Modification times lie in the past,
    so that whatever the script writes, however soon, is seen to have changed.
    """
    root = os.fspath(place.root)
    (place.tmp if owner is None else place.home).mkdir(parents=True, exist_ok=True)
    files = {file["path"]: file for file in (*spec["files"], *item["files"])}
    dirs = _directories((*files, *spec["links"]), (*spec["dirs"], *([spec["cwd"]] if spec["cwd"] else ())))
    for path in ("", *dirs):
        os.mkdir(f"{root}/{path}", 0o755)  # noqa: PTH102 - per file, a Path costs more than the call
    uses = Counter(file["sha256"] for file in files.values())
    past = time.time_ns() - _PAST_S * 1_000_000_000
    for path, file in files.items():
        _place(file, f"{root}/{path}", cache, own, last=uses[file["sha256"]] == 1)
        uses[file["sha256"]] -= 1
        os.utime(f"{root}/{path}", ns=(past, past))
    for path, target in spec["links"].items():
        os.symlink(target, f"{root}/{path}")  # noqa: PTH211
    if stdin := stdin_blob(spec):
        cache.copy(stdin["sha256"], os.fspath(place.stdin), 0o400)
    if owner is not None:
        os.chown(place.home, owner, owner)
        for path in ("", *dirs, *files, *spec["links"]):
            os.chown(f"{root}/{path}", owner, owner, follow_symlinks=False)
    known = {path: _known("file", f"{root}/{path}", file["sha256"], "") for path, file in files.items()}
    known |= {path: _known("link", f"{root}/{path}", "", target) for path, target in spec["links"].items()}
    return known | {path: _known("dir", f"{root}/{path}", "", "") for path in dirs}


def _place(file: FileRef, target: str, cache: BlobCache, own: Mapping[str, Path], *, last: bool) -> None:
    if not file["size"]:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.chmod(target, file["mode"])  # noqa: PTH101
    elif file["sha256"] in own and last:
        own[file["sha256"]].rename(target)
        os.chmod(target, file["mode"])  # noqa: PTH101
    elif file["sha256"] in own:
        copy_file(os.fspath(own[file["sha256"]]), target, file["mode"])
    else:
        cache.copy(file["sha256"], target, file["mode"])


def _directories(files: Iterable[str], dirs: Iterable[str]) -> list[str]:
    """All directories of these paths, parents first."""
    every: set[str] = set()
    for path in (*(path.rpartition("/")[0] for path in files), *dirs):
        while path and path not in every:
            every.add(path)
            path = path.rpartition("/")[0]
    return sorted(every)


def _known(kind: str, path: str, sha256: str, target: str) -> Known:
    stat = os.lstat(path)
    return Known(
        kind, stat.st_mode & 0o777, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, sha256, target
    )


def save_known(place: Place, known: Mapping[str, Known]) -> None:
    """Keep ``known`` for an agent that takes over."""
    rows = {
        path: [was.kind, was.mode, was.size, was.mtime_ns, was.ctime_ns, was.ino, was.sha256, was.target]
        for path, was in known.items()
    }
    write_json(place.base / "before.json", rows)


def load_known(place: Place) -> dict[str, Known] | None:
    """What ``save_known`` kept, or None."""
    rows = read_json(place.base / "before.json")
    return None if rows is None else {path: Known(*row) for path, row in rows.items()}


def render(argument: Arg, root: str) -> str:
    """An argument as the script gets it: a ``PathArg`` names the file's place in the workspace."""
    return argument if isinstance(argument, str) else f"{argument['prefix']}{root}/{argument['path']}"
