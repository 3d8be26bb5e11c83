"""The pipes between a shim and its script."""

from __future__ import annotations

import fcntl
import os

from rgrid_runner.shim.loop import Loop

_CHUNK = 64 * 1024
_PIPE_BYTES = 256 * 1024
_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", 0)

TYPE_CHECKING = False  # ``typing`` costs 10 ms
if TYPE_CHECKING:
    from collections.abc import Callable


def output_pipe() -> tuple[int, int]:
    """A pipe for what the script writes: our end (not blocking) and the script's."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    enlarge(reading)
    return reading, writing


def enlarge(pipe: int) -> None:
    """Let a pipe hold more, if the system lets us."""
    if _SET_SIZE:
        try:
            fcntl.fcntl(pipe, _SET_SIZE, _PIPE_BYTES)
        except OSError:
            return  # the user has many pipes: the ordinary size works too


def read_all(fd: int, take: Callable[[bytes], None], *, rounds: int) -> bool:
    """Read what is there, at most ``rounds`` × 64 KiB; False at the end of the file."""
    for _ in range(rounds):
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        if not data:
            return False
        take(data)
        if len(data) < _CHUNK:
            return True
    return True


class Feeder:
    """The pipe into a script's stdin. Bytes that the script will never read are dropped, as a shell would."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._fd = -1
        self._source = -1
        self._waiting: list[tuple[bytes, bool, Callable[[], None]]] = []
        self.taken = 0

    def open(self) -> int:
        """Make the pipe; returns the script's end, which the caller closes."""
        reading, self._fd = os.pipe()
        os.set_blocking(self._fd, False)
        return reading

    def adopt(self, fd: int, source: int = -1) -> None:
        """Take over a pipe to write to (not blocking), and a file that is all there will be to write."""
        self._fd, self._source = fd, source
        if source >= 0:
            self._loop.on_writable(fd, self._copy)

    def push(self, data: bytes, eof: bool, done: Callable[[], None]) -> None:
        """Write ``data`` and then, with ``eof``, close; ``done`` is called when the pipe has all of it."""
        self.taken += len(data)
        self._waiting.append((data, eof, done))
        if len(self._waiting) == 1:
            self._pump()

    def close(self) -> None:
        """Close the pipe and drop what waits."""
        if self._fd >= 0:
            self._loop.remove(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._source >= 0:
            os.close(self._source)
            self._source = -1
        waiting, self._waiting = self._waiting, []
        for _, _, done in waiting:
            done()

    def _copy(self) -> None:
        """One piece of the source, now that the pipe has room."""
        data = os.read(self._source, _CHUNK)
        try:
            sent = os.write(self._fd, data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:  # the script closed its stdin
            data = b""
        if not data:
            self.close()
        elif sent < len(data):
            os.lseek(self._source, sent - len(data), os.SEEK_CUR)

    def _pump(self) -> None:
        while self._waiting:
            data, eof, done = self._waiting[0]
            try:
                sent = os.write(self._fd, data) if data and self._fd >= 0 else len(data)
            except BlockingIOError:
                sent = 0
            except OSError:  # the script closed its stdin
                self.close()
                return
            if sent < len(data):
                self._waiting[0] = (data[sent:], eof, done)
                self._loop.on_writable(self._fd, self._pump)
                return
            del self._waiting[0]
            done()
            if eof:
                self.close()
        if self._fd >= 0:
            self._loop.remove(self._fd)
