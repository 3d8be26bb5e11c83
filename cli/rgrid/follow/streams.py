"""The script's bytes to the command's own stdout and stderr, and rgrid's notes between them."""

from __future__ import annotations

import os
import sys
import threading
from base64 import b64decode
from typing import TYPE_CHECKING, Final

from rgrid import output
from rgrid_shared.states import Stream

if TYPE_CHECKING:
    from rgrid_shared.views import LogChunkView

STDOUT: Final = 1
STDERR: Final = 2


class Streams:
    """Passes chunks on, byte for byte and at once.

    A stream that nobody reads any more is dropped; the run and its exit code do not depend on it. ``fault``: why
    something could not be written, for example a full disk; empty if everything was.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self.fault = ""
        self._lock = threading.Lock()
        self._closed: set[int] = set()
        self._last: dict[int, int] = {}

    def show(self, chunk: LogChunkView) -> None:
        """Write a chunk where it belongs; what rgrid's runner says is a note."""
        data = b64decode(chunk["data"])
        if chunk["stream"] == Stream.SYSTEM:
            self.note(data.decode(errors="replace").rstrip("\n"))
        else:
            self.write(STDERR if chunk["stream"] == Stream.STDERR else STDOUT, data)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of ``data``."""
        with self._lock:
            if descriptor in self._closed or not data:
                return
            self._last[descriptor] = data[-1]
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(descriptor, view) :]
            except BrokenPipeError:
                self._closed.add(descriptor)
            except BlockingIOError:
                self._wait_and_write(descriptor, view)
            except OSError as error:
                self._closed.add(descriptor)
                self.fault = f"std{'err' if descriptor == STDERR else 'out'} cannot be written: {error.strerror}"

    def _wait_and_write(self, descriptor: int, view: memoryview) -> None:
        """Somebody set the descriptor non-blocking (a shared terminal may be): wait as a blocking write would."""
        import select

        try:
            while view:
                select.select([], [descriptor], [])
                try:
                    view = view[os.write(descriptor, view) :]
                except BlockingIOError:
                    continue
        except BrokenPipeError:
            self._closed.add(descriptor)

    def note(self, text: str) -> None:
        """A note of rgrid's own on stderr, on a line of its own where the terminal shows both streams."""
        with self._lock:
            if STDERR in self._closed:
                return
            try:
                if output.is_terminal(sys.stderr) and self._unfinished():
                    sys.stderr.write("\n")
                output.say(text)
            except BrokenPipeError:
                self._closed.add(STDERR)

    def _unfinished(self) -> bool:
        shown = [STDERR, STDOUT] if output.is_terminal(sys.stdout) else [STDERR]
        open_line = any(self._last.get(descriptor, 10) != 10 for descriptor in shown)
        for descriptor in shown:
            self._last[descriptor] = 10
        return open_line
