"""Inputs kept on this host, each under its own SHA-256, so that the next execution need not fetch them again.

A file is verified when it enters and once more by every new agent, before it is first served: nothing runs on wrong
bytes. Copies are handed out, never links: scripts overwrite their inputs in place. Safe to use from many threads.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_COPY: Final = 16 * 1024 * 1024
_READ: Final = 1024 * 1024


class BlobCache:
    """At most ``limit`` bytes below ``root``; what was used longest ago goes first, pinned blobs stay."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        self._pins: Counter[str] = Counter()
        self._verified: set[str] = set()
        (root / "new").mkdir(parents=True, exist_ok=True)

    def load(self) -> None:
        """Learn what an earlier agent left, oldest first; its unfinished files are removed."""
        for left in (self._root / "new").iterdir():
            left.unlink(missing_ok=True)
        entries = []
        for directory in self._root.iterdir():
            if len(directory.name) == 2:
                entries += [(stat.st_mtime, path.name, stat.st_size) for path, stat in _stats(directory)]
        with self._lock:
            for _, sha256, size in sorted(entries):
                if sha256 not in self._sizes:
                    self._sizes[sha256] = size
                    self._total += size

    def new_file(self) -> Path:
        """A fresh name on the cache's filesystem, for bytes that are still arriving."""
        return self._root / "new" / f"{os.getpid()}-{threading.get_ident()}-{os.urandom(6).hex()}"

    def holds(self, sha256: str, size: int) -> bool:
        """True if the blob can be served. A file that was tampered with, or is of another size, is dropped."""
        path = self._path(sha256)
        try:
            right_size = path.stat().st_size == size
        except OSError:
            self._forget(sha256)
            return False
        if right_size and (sha256 in self._verified or file_sha256(path) == sha256):
            with self._lock:
                self._verified.add(sha256)
                if sha256 in self._sizes:
                    self._sizes.move_to_end(sha256)
                else:
                    self._sizes[sha256] = size
                    self._total += size
            return True
        path.unlink(missing_ok=True)
        self._forget(sha256)
        return False

    def admit(self, sha256: str, size: int, arrived: Path) -> None:
        """Take over the file ``arrived``, whose hash the caller has verified."""
        path = self._path(sha256)
        path.parent.mkdir(exist_ok=True)
        arrived.chmod(0o444)
        arrived.replace(path)
        with self._lock:
            self._total += size - self._sizes.pop(sha256, 0)
            self._sizes[sha256] = size
            self._verified.add(sha256)
        self._shrink(self._limit)

    def admit_bytes(self, sha256: str, data: bytes | memoryview) -> None:
        """Take ``data``, whose hash the caller has verified."""
        arriving = self.new_file()
        arriving.write_bytes(data)
        self.admit(sha256, len(data), arriving)

    def copy(self, sha256: str, target: str, mode: int) -> None:
        """Make ``target``, which must not exist, a copy of the blob with these permission bits."""
        copy_file(os.fspath(self._path(sha256)), target, mode)

    def pin(self, blobs: Iterable[str]) -> None:
        """Keep these until ``unpin``."""
        with self._lock:
            self._pins.update(blobs)

    def unpin(self, blobs: Iterable[str]) -> None:
        """Let go of what ``pin`` kept."""
        with self._lock:
            self._pins.subtract(blobs)
            self._pins = +self._pins

    def make_room(self) -> None:
        """Drop all that is not pinned: the disk is full."""
        self._shrink(0)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def _forget(self, sha256: str) -> None:
        with self._lock:
            self._total -= self._sizes.pop(sha256, 0)
            self._verified.discard(sha256)

    def _shrink(self, limit: int) -> None:
        victims = []
        with self._lock:
            for sha256, size in list(self._sizes.items()) if self._total > limit else ():
                if self._total <= limit:
                    break
                if sha256 not in self._pins:
                    del self._sizes[sha256]
                    self._verified.discard(sha256)
                    self._total -= size
                    victims.append(sha256)
        for sha256 in victims:
            self._path(sha256).unlink(missing_ok=True)


def _stats(directory: Path) -> list[tuple[Path, os.stat_result]]:
    return [(path, path.stat()) for path in directory.iterdir() if path.is_file()]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes in hex; never more than 1 MiB of it in memory."""
    state = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_READ):
            state.update(piece)
    return state.hexdigest()


def copy_file(source: str, target: str, mode: int) -> None:
    """Copy into a new file. Where the filesystem can share blocks until one side writes, nothing is copied."""
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _copy(reader, writer)
            os.fchmod(writer, mode)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy(reader: int, writer: int) -> None:
    if hasattr(os, "copy_file_range"):
        try:
            while os.copy_file_range(reader, writer, _COPY):
                pass
        except OSError:
            # Not across these filesystems: start again by reading and writing (a full disk fails there as well).
            os.lseek(reader, 0, os.SEEK_SET)
            os.lseek(writer, 0, os.SEEK_SET)
        else:
            return
    with os.fdopen(reader, "rb", closefd=False) as source, os.fdopen(writer, "wb", closefd=False) as sink:
        shutil.copyfileobj(source, sink, _READ)
