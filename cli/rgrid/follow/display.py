"""How a batch's progress is shown: one live block on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from rgrid import output
from rgrid.counts import ended, failed, running, stopped, waiting
from rgrid.times import duration_text, size_text
from rgrid_shared.states import Status

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rgrid.follow.causes import Causes
    from rgrid_shared.views import BatchView

EVERY_S: Final = 10.0
WINDOW_S: Final = 30.0


class Pace:
    """Items that end per second, over the last half minute."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def mark(self, now: float, done: int) -> None:
        """``done`` items have ended at ``now`` (seconds)."""
        if self._marks and self._marks[-1][1] == done:
            return
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()

    def rate(self, now: float) -> float:
        """Items per second; 0 while unknown."""
        if len(self._marks) < 2:
            return 0.0
        first, last = self._marks[0], self._marks[-1]
        return (last[1] - first[1]) / max(0.001, now - first[0])

    def eta_s(self, now: float, left: int) -> float | None:
        """Seconds until ``left`` more items have ended; None while unknown."""
        rate = self.rate(now)
        return left / rate if rate > 0 and left else None


def progress_text(batch: BatchView, pace: Pace, now: float) -> str:
    """``120/200 done · 2 failed · 4 running · 74 queued · 3.1/s · 24 s left``."""
    counts = batch["counts"]
    done = ended(counts)
    parts = [f"{done}/{batch['total']} done"]
    for number, word in (
        (failed(counts), Status.FAILED),
        (stopped(counts), Status.CANCELLED),
        (running(counts), Status.RUNNING),
        (waiting(counts), Status.QUEUED),
    ):
        if number:
            parts.append(f"{number} {word}")
    rate = pace.rate(now)
    if rate > 0 and done < batch["total"]:
        parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{rate * 60:.1f}/min")
        if (left := pace.eta_s(now, batch["total"] - done)) is not None:
            parts.append(f"{duration_text(left)} left")
    return " · ".join(parts)


class Display(Protocol):
    """Shows a batch's progress."""

    def update(self, batch: BatchView, causes: Causes, files: int, size: int) -> None:
        """Something has changed. ``files``, ``size``: outputs that are here already, and their bytes."""

    def note(self, text: str) -> None:
        """A line that stays."""

    def close(self) -> None:
        """Nothing more will be shown."""


class Lines:
    """Off a terminal: a progress line at most every ten seconds."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._pace = Pace()
        self._next = time.monotonic() + EVERY_S

    def update(self, batch: BatchView, causes: Causes, files: int, size: int) -> None:
        """Print a line if the last one is old enough."""
        now = time.monotonic()
        self._pace.mark(now, ended(batch["counts"]))
        if now >= self._next and not self._quiet:
            self._next = now + EVERY_S
            output.say(progress_text(batch, self._pace, now))

    def note(self, text: str) -> None:
        """Print it."""
        output.say(text)

    def close(self) -> None:
        """Nothing is open."""


class Live:
    """On a terminal: a bar, the numbers, the largest causes of failure and what has arrived, redrawn in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._console = Console(file=sys.stderr, highlight=False)
        self._live = RichLive(console=self._console, refresh_per_second=8, transient=True)
        self._live.start()
        self._pace = Pace()

    def update(self, batch: BatchView, causes: Causes, files: int, size: int) -> None:
        """Redraw, at most eight times a second."""
        self._pace.mark(time.monotonic(), ended(batch["counts"]))
        self._live.update(self._block(batch, causes, files, size))

    def _block(self, batch: BatchView, causes: Causes, files: int, size: int) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        wide = self._console.width
        lines: list[RenderableType] = [
            self._bar(batch, min(60, wide)),
            Text(progress_text(batch, self._pace, time.monotonic()), no_wrap=True, overflow="ellipsis"),
        ]
        if files:
            lines.append(Text(f"{files} output files here, {size_text(size)}", style="dim", no_wrap=True))
        lines += [
            Text(output.shorten(line, wide - 2), style="red", no_wrap=True, overflow="ellipsis")
            for line in causes.lines(3)
        ]
        return Group(*lines)

    def _bar(self, batch: BatchView, columns: int) -> RenderableType:
        from rich.text import Text

        counts = batch["counts"]
        bad = columns * (failed(counts) + stopped(counts)) // batch["total"]
        good = columns * ended(counts) // batch["total"] - bad
        return Text.assemble(("━" * good, "green"), ("━" * bad, "red"), ("━" * (columns - good - bad), "bright_black"))

    def note(self, text: str) -> None:
        """Print above the block."""
        from rich.text import Text

        for line in output.clean(text, lines=True).splitlines():
            self._console.print(Text(output.PREFIX + line, style="dim"), soft_wrap=True)

    def close(self) -> None:
        """Take the block away."""
        self._live.stop()
