"""What holds a script and all that it starts: a process tree (``processes.py``) or a container (``container.py``).

A holder finds, signals and counts processes. Pipes, clock, causes and the order of things are the run's.
"""

from __future__ import annotations

TYPE_CHECKING = False  # ``typing`` costs 10 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from rgrid_runner.shim.pipes import Feeder


class Usage:
    """What a run used: milliseconds of processor time, bytes of memory at its peak, bytes from and to disks."""

    def __init__(self, cpu_ms: int, peak: int, read: int, written: int) -> None:
        self.cpu_ms = cpu_ms
        self.peak = peak
        self.read = read
        self.written = written


class Holder:
    """One run's processes.

    ``pid``: the script's, 0 if it has none that means anything here. ``status``: its raw wait status, None as long
    as it runs. ``lost``: it ended and nobody will ever know how. ``watched``: ``exceeds_memory`` is to be asked now
    and then.
    """

    pid = 0
    status: int | None = None
    lost = False
    watched = False

    def start(self, feeder: Feeder, changed: Callable[[], None]) -> dict[int, int]:
        """Start the script; descriptors (not blocking) of its output with the stream that each is.

        ``changed()`` is called when ``reap`` may have something to tell; not before this returns. Raises SpawnError,
        or OSError for the stdin file; nothing is left then.
        """
        raise NotImplementedError

    def reap(self) -> bool:
        """See what has ended; True if nothing of the run is left."""
        raise NotImplementedError

    def terminate(self) -> None:
        """Ask the script's process group to end."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill everything, also what stands."""
        raise NotImplementedError

    def stop(self) -> None:
        """Let everything stand; returns when it does."""
        raise NotImplementedError

    def resume(self) -> None:
        """Let it go on."""
        raise NotImplementedError

    def exceeds_memory(self) -> bool:
        """Look at the memory in use; True if the run is to be killed for it."""
        raise NotImplementedError

    def ran_out_of_memory(self) -> bool:
        """True if the kernel has killed any of it for lack of memory."""
        raise NotImplementedError

    def usage(self) -> Usage:
        """What it used until now."""
        raise NotImplementedError

    def identity(self) -> list[bytes]:
        """Fields for the end of RUN: how to find it if the shim dies."""
        raise NotImplementedError

    def leave(self, *, stuck: bool) -> bool:
        """Let go of all; True if what it was in may serve another run.

        ``stuck``: some of it hangs in the kernel, and was not to be killed.
        """
        raise NotImplementedError
