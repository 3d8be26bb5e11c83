"""An event loop of forty lines: descriptors and what to call when they are ready. Asleep it costs nothing."""

from __future__ import annotations

import select

TYPE_CHECKING = False  # ``typing`` costs 10 ms
if TYPE_CHECKING:
    from collections.abc import Callable

_READ = select.POLLIN | select.POLLPRI
_ENDED = select.POLLHUP | select.POLLERR | select.POLLNVAL


def _nothing() -> None:
    """Called for a descriptor that nobody waits for in this direction."""


class Loop:
    """Calls back for descriptors that can be read or written."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._reading: dict[int, Callable[[], None]] = {}
        self._writing: dict[int, Callable[[], None]] = {}

    def on_readable(self, fd: int, call: Callable[[], None]) -> None:
        """Call ``call()`` whenever ``fd`` has something to read or its other end is closed."""
        self._reading[fd] = call
        self._watch(fd)

    def on_writable(self, fd: int, call: Callable[[], None] | None) -> None:
        """Call ``call()`` whenever ``fd`` takes bytes; None stops that."""
        if call:
            self._writing[fd] = call
        else:
            self._writing.pop(fd, None)
        self._watch(fd)

    def remove(self, fd: int) -> None:
        """Forget ``fd``; to be called before it is closed."""
        if self._reading.pop(fd, None) or self._writing.pop(fd, None):
            self._writing.pop(fd, None)
            self._poll.unregister(fd)

    def turn(self, wait_ns: int) -> None:
        """Wait until something is ready, at most ``wait_ns`` (−1: for ever), and make the calls."""
        timeout = None if wait_ns < 0 else (wait_ns + 999_999) // 1_000_000
        for fd, event in self._poll.poll(timeout):
            if event & (_READ | _ENDED):
                self._reading.get(fd, _nothing)()
            if event & (select.POLLOUT | _ENDED):
                self._writing.get(fd, _nothing)()

    def _watch(self, fd: int) -> None:
        mask = (_READ if fd in self._reading else 0) | (select.POLLOUT if fd in self._writing else 0)
        if mask:
            self._poll.register(fd, mask)
        else:
            self._poll.unregister(fd)
