"""SHA-256 of local files. Big ones in threads (hashlib releases the GIL), remembered between runs."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from rgrid_shared.errors import UsageError
from rgrid_shared.wire import EMPTY_SHA256

BIG: Final = 1 << 20
SMALL: Final = 256 << 10
KEEP_BYTES: Final = 32 << 20
_RACY_NS: Final = 2_000_000_000
_MAX_ENTRIES: Final = 20_000


class Hashed(NamedTuple):
    """A local file as it was read. ``mode``: permission bits; ``inode``: with size and time, tells a changed file."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    mode: int
    sha256: str


class Hasher:
    """Hashes files once. ``kept``: the bytes of small files by hash (32 MiB at most), to spare a second read."""

    def __init__(self, cache: Path | None, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        """``cache``: a JSON file that remembers the hashes of files of 1 MiB and more; None for none."""
        self.kept: dict[str, bytes] = {}
        self._room = KEEP_BYTES
        self._file = cache
        self._now_ns = now_ns
        self._known: dict[str, list[Any]] = {}
        self._read = False
        self._changed = False

    def hash_all(self, paths: Iterable[str], show: Callable[[str], str] = str) -> dict[str, Hashed]:
        """Every file by path. ``show``: how a path is written in messages.

        Raises:
            UsageError: a file is gone, cannot be read, or changes while it is read.
        """
        found: dict[str, Hashed] = {}
        big: list[str] = []
        for path in paths:
            try:
                small = self._small(path)
            except OSError as error:
                raise UsageError(
                    f"{show(path)} cannot be read: {error.strerror}.", hint="Check its permissions."
                ) from error
            if small is None:
                big.append(path)
            else:
                found[path] = small
        for hashed in self._big(big, show):
            found[hashed.path] = hashed
        self._store()
        return found

    def _small(self, path: str) -> Hashed | None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{path} is no regular file any more.", hint="Run it again.")
            if status.st_size >= BIG:
                return None
            data = os.read(descriptor, status.st_size + 1)
            while len(data) < status.st_size and (more := os.read(descriptor, status.st_size + 1 - len(data))):
                data += more
        finally:
            os.close(descriptor)
        if data:
            digest = hashlib.sha256(data).hexdigest()
            if len(data) <= SMALL and len(data) <= self._room and digest not in self.kept:
                self.kept[digest] = data
                self._room -= len(data)
        else:
            digest = EMPTY_SHA256
        return Hashed(path, len(data), status.st_mtime_ns, status.st_ino, status.st_mode & 0o777, digest)

    def _big(self, paths: Sequence[str], show: Callable[[str], str]) -> Iterable[Hashed]:
        if not paths:
            return []
        self._load()

        def one(path: str) -> Hashed:
            try:
                return self._stable(path, show)
            except OSError as error:
                raise UsageError(
                    f"{show(path)} cannot be read: {error.strerror}.", hint="Check its permissions."
                ) from error

        if len(paths) == 1:
            return [one(paths[0])]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(one, paths))

    def _stable(self, path: str, show: Callable[[str], str]) -> Hashed:
        status = os.stat(path)
        facts = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._known.get(path)
        if known is not None and known[:3] == facts:
            return _hashed(path, status, known[3])
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        if [after.st_size, after.st_mtime_ns, after.st_ino] != facts:
            raise UsageError(f"{show(path)} changed while it was read.", hint="Run it again when nothing writes to it.")
        # A file touched within the clock's grain could change again without a new time.
        if self._now_ns() - status.st_mtime_ns > _RACY_NS:
            self._known[path] = [*facts, digest]
            self._changed = True
        return _hashed(path, status, digest)

    def _load(self) -> None:
        if self._read or self._file is None:
            return
        self._read = True
        try:
            document = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(document, dict):
            self._known = {
                path: entry for path, entry in document.items() if isinstance(entry, list) and len(entry) == 4
            }

    def _store(self) -> None:
        """Write the cache anew. It is a convenience: a home that cannot be written to is no reason to fail."""
        if not self._changed or self._file is None:
            return
        self._changed = False
        entries = dict(list(self._known.items())[-_MAX_ENTRIES:])
        try:
            write_atomically(self._file, json.dumps(entries).encode(errors="surrogatepass"))
        except OSError:
            return


def _hashed(path: str, status: os.stat_result, digest: str) -> Hashed:
    return Hashed(path, status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode & 0o777, digest)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file as a whole; readers see the old or the new one. Raises OSError."""
    import tempfile  # costs more than a whole warm command saves elsewhere, and is seldom needed

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
