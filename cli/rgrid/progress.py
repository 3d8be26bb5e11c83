"""A one-line transfer bar on stderr, for a terminal and for what takes long enough to be worth one."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Final

from rgrid import output
from rgrid.times import size_text

WORTH_IT: Final = 8 << 20
EVERY_S: Final = 0.1


class Bar:
    """Counts bytes from any number of threads; draws at most ten times a second, and only on a terminal.

    ``total``: bytes to come; below 8 MiB nothing is ever drawn.
    """

    def __init__(self, label: str, total: int) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._lock = threading.Lock()
        self._drawn_at = 0.0
        self._started = time.monotonic()
        self._on = total >= WORTH_IT and output.lively()

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, count: int) -> None:
        """``count`` more bytes are through; a negative count takes a failed try back."""
        with self._lock:
            self.done += count
            now = time.monotonic()
            if self._on and now - self._drawn_at >= EVERY_S:
                self._drawn_at = now
                self._draw(now)

    def expect(self, count: int) -> None:
        """``count`` more bytes are to come."""
        with self._lock:
            self.total += count
            self._on = self._on or (self.total >= WORTH_IT and output.lively())

    def _draw(self, now: float) -> None:
        share = min(1.0, self.done / self.total) if self.total else 1.0
        filled = int(share * 24)
        speed = self.done / max(0.001, now - self._started)
        line = f"{self.label} [{'━' * filled}{' ' * (24 - filled)}] {size_text(self.done)} of {size_text(self.total)}"
        sys.stderr.write(f"\r\x1b[K{line}  {size_text(int(speed))}/s")
        sys.stderr.flush()

    def close(self) -> None:
        """Take the bar away."""
        with self._lock:
            if self._on and self._drawn_at:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
            self._on = False
