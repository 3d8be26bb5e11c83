"""Local bytes to the store: small blobs packed together, big ones in parallel parts, nothing held in memory.

What is sent is checked against the plan while it is read: a file that changed in
between stops the submission.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rgrid.submit.hashing import SMALL, Hashed
from rgrid.submit.plan import Plan
from rgrid.submit.progress import Progress
from rgrid_shared.errors import RgridError, Unreachable, UsageError
from rgrid_shared.protocol import Upload
from rgrid_shared.specs import UploadDone, UploadRequest

if TYPE_CHECKING:
    from rgrid.client import Client

PACK_BYTES: Final = 8 << 20
PACK_BLOBS: Final = 4096
THREADS: Final = 8
_CHUNK: Final = 1 << 20
_GROUP_OBJECTS: Final = 500
_GROUP_BLOBS: Final = 16_384
_GROUP_BYTES: Final = 1 << 28
_ROUNDS: Final = 3


class _Stopped(Exception):
    """Another transfer failed, or the user gave up."""


@dataclass(frozen=True, slots=True)
class _Object:
    """What will be one object in the store: one file, or several small ones back to back."""

    files: tuple[Hashed, ...]
    size: int

    def request(self) -> UploadRequest:
        offset = 0
        request: UploadRequest = {"size": self.size, "blobs": []}
        for file in self.files:
            request["blobs"].append({"sha256": file.sha256, "size": file.size, "offset": offset})
            offset += file.size
        return request


def upload(client: Client, plan: Plan, absent: list[Hashed], progress: Progress) -> None:
    """Store the blobs that the grid lacks.

    Raises:
        UsageError: a file changed since it was hashed, or cannot be read any more.
        Unreachable: the store does not answer, or refuses.
    """
    todo = _objects(absent)
    transfer = _Transfer(client, plan, progress)
    try:
        for _ in range(_ROUNDS):
            todo = [late for group in _groups(todo) for late in transfer.send(group)]
            if not todo:
                return
    finally:
        transfer.close()
    raise Unreachable(
        "The store's links ran out before the upload was through.",
        hint="Run it again: what has arrived is not sent twice.",
    )


def _objects(files: Iterable[Hashed]) -> list[_Object]:
    objects: list[_Object] = []
    pack: list[Hashed] = []
    size = 0
    for file in files:
        if file.size > SMALL:
            objects.append(_Object((file,), file.size))
            continue
        if pack and (size + file.size > PACK_BYTES or len(pack) == PACK_BLOBS):
            objects.append(_Object(tuple(pack), size))
            pack, size = [], 0
        pack.append(file)
        size += file.size
    if pack:
        objects.append(_Object(tuple(pack), size))
    return objects


def _groups(objects: Iterable[_Object]) -> Iterator[list[_Object]]:
    """Objects whose places are asked for together: links live for minutes only, and a request has its limits."""
    group: list[_Object] = []
    blobs = size = 0
    for entry in objects:
        full = (
            len(group) == _GROUP_OBJECTS or blobs + len(entry.files) > _GROUP_BLOBS or size + entry.size > _GROUP_BYTES
        )
        if group and full:
            yield group
            group, blobs, size = [], 0, 0
        group.append(entry)
        blobs += len(entry.files)
        size += entry.size
    if group:
        yield group


class _Transfer:
    def __init__(self, client: Client, plan: Plan, progress: Progress) -> None:
        self._client = client
        self._plan = plan
        self._progress = progress
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")

    def close(self) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def send(self, group: list[_Object]) -> list[_Object]:
        """Store a group; returns the objects whose links ran out before they were through."""
        places = self._client.uploads([entry.request() for entry in group])["uploads"]
        tasks: list[list[Future[str]]] = [
            [self._pool.submit(self._part, entry, place, part) for part in range(len(place["urls"]))]
            for entry, place in zip(group, places, strict=True)
        ]
        for task in as_completed([task for parts in tasks for task in parts]):
            failure = _failure(task)
            if failure is not None:
                raise failure
        done: list[UploadDone] = []
        late: list[_Object] = []
        for entry, place, parts in zip(group, places, tasks, strict=True):
            etags = [task.result() if task.exception() is None else None for task in parts]
            whole = [etag for etag in etags if etag is not None]
            if len(whole) < len(etags):
                late.append(entry)
            elif place["multipart"]:
                done.append({"id": place["id"], "etags": whole})
            else:
                done.append({"id": place["id"]})
        if done:
            self._client.uploads_complete(done)
        return late

    def _part(self, entry: _Object, place: Upload, part: int) -> str:
        url = place["urls"][part]
        if len(entry.files) > 1 or entry.size <= SMALL:
            body = b"".join(self._small(file) for file in entry.files)
            etag = self._client.put_object(url, body, len(body))
            self._progress.add(len(body))
            return etag
        start = part * place["part_size"] if place["multipart"] else 0
        size = min(place["part_size"], entry.size - start) if place["multipart"] else entry.size
        return self._client.put_object(url, self._stream(entry.files[0], start, size), size)

    def _small(self, file: Hashed) -> bytes:
        if self._stop.is_set():
            raise _Stopped
        data = self._plan.kept.get(file.sha256)
        if data is None:
            with _Opened(file) as descriptor:
                data = os.read(descriptor.number, file.size + 1)
            if hashlib.sha256(data).hexdigest() != file.sha256:
                raise _changed(file)
        return data

    def _stream(self, file: Hashed, start: int, size: int) -> Callable[[], Iterator[bytes]]:
        """The bytes of a part of a file, from the start each time that it is called."""

        def chunks() -> Iterator[bytes]:
            digest = hashlib.sha256() if size == file.size else None
            sent = 0
            try:
                with _Opened(file) as source:
                    source.check()
                    while sent < size:
                        if self._stop.is_set():
                            raise _Stopped
                        data = os.pread(source.number, min(_CHUNK, size - sent), start + sent)
                        if not data:
                            raise _changed(file)
                        if digest:
                            digest.update(data)
                        sent += len(data)
                        self._progress.add(len(data))
                        yield data
                    source.check()
                    if digest and digest.hexdigest() != file.sha256:
                        raise _changed(file)
            except BaseException:
                self._progress.add(-sent)
                raise

        return chunks


class _Opened:
    """A file open for reading, that can tell whether it is still the one that was hashed."""

    def __init__(self, file: Hashed) -> None:
        self._file = file
        try:
            self.number = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(f"{file.path} cannot be read any more: {error.strerror}.", hint="Run it again.") from error

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)

    def check(self) -> None:
        """Raise UsageError if the file is not as it was."""
        status = os.fstat(self.number)
        if (status.st_size, status.st_mtime_ns, status.st_ino) != (
            self._file.size,
            self._file.mtime_ns,
            self._file.inode,
        ):
            raise _changed(self._file)


def _changed(file: Hashed) -> UsageError:
    return UsageError(f"{file.path} changed while it was sent.", hint="Run it again when nothing writes to it.")


def _failure(task: Future[str]) -> BaseException | None:
    """Why a transfer failed for good; None if it is through, or only its link ran out."""
    error = task.exception()
    if error is None or (isinstance(error, RgridError) and error.code == "url_expired"):
        return None
    return error
