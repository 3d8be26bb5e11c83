"""Object bytes into local files: streamed, verified by hash, and only then given their name."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rgrid.network import Lost, backoff_s
from rgrid_shared.errors import RgridError, Unreachable

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid.http import Response
    from rgrid_shared.views import OutputObjectView

BLOCK: Final = 1 << 20
RANGE: Final = 16 << 20
PARALLEL_FROM: Final = 64 << 20
STREAMS: Final = 4
GAP: Final = 1 << 20
TRIES: Final = 6

Count = Callable[[int], None]


class LocalTrouble(RgridError):
    """This machine's disk does not take the outputs."""

    code = "local_io"
    title = "The outputs cannot be written here"


class Damaged(Unreachable):
    """Bytes arrived whose hash is not the one that the runner stored."""

    code = "damaged"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to make: ``size`` bytes at ``offset`` of its object, at the absolute local ``place``."""

    place: str
    sha256: str
    size: int
    offset: int
    mode: int


def local_trouble(error: OSError) -> LocalTrouble:
    """What a failed local write means, in words."""
    where = f" at {error.filename}" if isinstance(error.filename, str) else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LocalTrouble(f"There is no space left on the local disk{where}; outputs are still on the grid.")
    return LocalTrouble(f"An output cannot be written{where}: {error.strerror}; outputs are still on the grid.")


def fetch(client: Client, source: OutputObjectView, files: Sequence[Wanted], count: Count) -> None:
    """Make ``files`` from one object. A broken transfer is taken up again; a wrong hash is fetched once more.

    Raises ``Expired`` if the URL is out of date, ``Damaged``, ``LocalTrouble``, ``Unreachable``.
    """
    for run in runs_of(files):
        if len(run) == 1 and run[0].size >= PARALLEL_FROM:
            _again(lambda run=run: _fetch_parallel(client, source["url"], run[0], count))  # type: ignore[misc]
        else:
            _again(lambda run=run: _fetch_run(client, source["url"], run, count))  # type: ignore[misc]


def runs_of(files: Sequence[Wanted]) -> list[list[Wanted]]:
    """Files by offset, in runs that one request serves: no gap above 1 MiB, large files by themselves."""
    found: list[list[Wanted]] = []
    end = 0
    for file in sorted(files, key=lambda file: (file.offset, file.size)):
        large = file.size >= PARALLEL_FROM
        if found and not large and found[-1][-1].size < PARALLEL_FROM and 0 <= file.offset - end <= GAP:
            found[-1].append(file)
        else:
            found.append([file])
        end = file.offset + file.size
    return found


def _again(transfer: Callable[[], None]) -> None:
    damaged = 0
    for nth in range(TRIES):
        try:
            transfer()
        except Damaged:
            damaged += 1
            if damaged > 1:
                raise
        except Lost:
            if nth == TRIES - 1:
                raise
            time.sleep(backoff_s(nth + 1))
        except OSError as error:
            raise local_trouble(error) from error
        else:
            return


def _fetch_run(client: Client, url: str, files: Sequence[Wanted], count: Count) -> None:
    start = files[0].offset
    size = files[-1].offset + files[-1].size - start
    if size == 0:
        for file in files:
            make(file, b"")
        return
    answer = client.get_object(url, offset=start, size=size)
    at = start
    counted = 0
    try:
        for file in files:
            at += _pass(answer, file.offset - at)
            with Pending(file) as pending:
                left = file.size
                while left:
                    data = _some(answer, left)
                    pending.write(data)
                    left -= len(data)
                    counted += len(data)
                    count(len(data))
                pending.commit()
            at += file.size
        # Reads the end of the body, which gives the connection back.
        answer.some(1)
    except BaseException:
        count(-counted)
        raise
    finally:
        answer.close()


def _some(answer: Response, most: int) -> memoryview:
    data = answer.some(most)
    if not data:
        raise Lost("The store broke off its answer")
    return data


def _pass(answer: Response, size: int) -> int:
    left = size
    while left:
        left -= len(_some(answer, left))
    return size


def _fetch_parallel(client: Client, url: str, file: Wanted, count: Count) -> None:
    """Four ranges at a time; the hash follows behind, over what is complete from the start."""
    from concurrent.futures import ThreadPoolExecutor

    ranges = [(at, min(RANGE, file.size - at)) for at in range(0, file.size, RANGE)]
    with Pending(file) as pending, ThreadPoolExecutor(STREAMS, "rgrid-range") as pool:
        futures = [
            pool.submit(_fetch_range, client, url, file.offset + at, size, pending.descriptor, at, count)
            for at, size in ranges
        ]
        try:
            for future, (at, size) in zip(futures, ranges, strict=True):
                future.result()
                pending.hash_range(at, size)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        pending.commit()


def _fetch_range(client: Client, url: str, offset: int, size: int, descriptor: int, at: int, count: Count) -> None:
    done = 0
    for nth in range(TRIES):
        try:
            answer = client.get_object(url, offset=offset + done, size=size - done)
            try:
                while done < size:
                    data = _some(answer, size - done)
                    while data:
                        # A disk that is nearly full takes less than it is given.
                        written = os.pwrite(descriptor, data, at + done)
                        data = data[written:]
                        done += written
                        count(written)
                answer.some(1)
            finally:
                answer.close()
        except Lost:
            if nth == TRIES - 1:
                raise
            time.sleep(backoff_s(nth + 1))
        else:
            return


def make(file: Wanted, data: bytes) -> None:
    """Write a file whose bytes are at hand."""
    with Pending(file) as pending:
        pending.write(memoryview(data))
        pending.commit()


class Pending:
    """A file under a temporary name beside its place.

    ``commit`` verifies, syncs and renames it; leaving without a commit drops it.
    """

    def __init__(self, file: Wanted) -> None:
        self.file = file
        self._hash = hashlib.sha256()
        self._written = 0
        folder, name = os.path.split(file.place)
        self.descriptor, self._temporary = tempfile.mkstemp(prefix=f".{name[:40]}.rgrid-", dir=folder)

    def __enter__(self) -> Pending:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        if self._temporary:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary)

    def write(self, data: memoryview) -> None:
        """Append bytes."""
        self._hash.update(data)
        while data:
            data = data[os.write(self.descriptor, data) :]

    def hash_range(self, at: int, size: int) -> None:
        """Take bytes that were written at their own place into the hash; ranges come in order."""
        while size:
            block = os.pread(self.descriptor, min(size, BLOCK), at)
            self._hash.update(block)
            at += len(block)
            size -= len(block)

    def commit(self) -> None:
        """Give the file its mode and name. Raises ``Damaged`` if its bytes are not those of the manifest."""
        if self._hash.hexdigest() != self.file.sha256:
            raise Damaged(f"{self.file.place} did not arrive as it was stored: its hash is another.")
        os.fchmod(self.descriptor, self.file.mode)
        os.fsync(self.descriptor)
        os.close(self.descriptor)
        self.descriptor = -1
        os.replace(self._temporary, self.file.place)
        self._temporary = ""
