"""Where a run's output goes: numbered chunks appended to one file, up to a limit that is marked."""

from __future__ import annotations

import os
import time

from rgrid_runner.shim.frames import CHUNK, STDERR, STDOUT, SYSTEM

_TAIL = 4096


class Sink:
    """Writes chunks. A chunk is in the file in one piece or not at all.

    When ``limit`` bytes are kept, or the disk takes no more, a SYSTEM chunk says so and the rest is only counted.
    """

    def __init__(self, path: bytes, limit: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._limit = limit
        self._cut = False
        self.size = 0
        self.seq = 0
        self.kept = {STDOUT: 0, STDERR: 0, SYSTEM: 0}
        self.truncated = {STDOUT: 0, STDERR: 0, SYSTEM: 0}
        self.stderr_tail = b""

    def write(self, stream: int, data: bytes) -> None:
        """Append ``data`` (at most 64 KiB)."""
        if stream == STDERR:
            self.stderr_tail = (self.stderr_tail + data)[-_TAIL:]
        room = 0 if self._cut else self._limit - self.kept[STDOUT] - self.kept[STDERR]
        if len(data) <= room:
            if self._append(stream, data):
                return
            self._mark(b"The runner's disk is full: what follows of the output is not kept.\n")
            room = 0
        elif not self._cut:
            if room and not self._append(stream, data[:room]):
                room = 0
            self._mark(b"The log limit of %d bytes is reached: what follows is not kept.\n" % self._limit)
        self.truncated[stream] += len(data) - room

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _mark(self, text: bytes) -> None:
        self._cut = True
        self._append(SYSTEM, text)

    def _append(self, stream: int, data: bytes) -> bool:
        """True if it is in the file."""
        head = CHUNK.pack(len(data), stream, self.seq + 1, time.time_ns() // 1000)
        whole = len(head) + len(data)
        try:
            done = os.writev(self._fd, (head, data))
        except OSError:
            done = 0
        if done != whole:  # the disk is full, or a file size limit: nothing half-written may stay
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            return False
        self.size += whole
        self.seq += 1
        self.kept[stream] += len(data)
        return True
