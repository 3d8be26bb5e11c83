"""One run: a script's pipes, its clock, and its end. What holds its processes is a ``Holder``.

::

    runs ──(exits)──▶ lingers ──▶ sweeps ──▶ over
      └─(timeout, memory, request, lease: TERM, grace)──▶ sweeps

*Lingers*: the script is gone but something that it started holds its output; it has a second. *Sweeps*: whatever is
left is killed until nothing is. *Over*: the status is on disk. Nothing here blocks for longer than it takes to stop
a process tree or to hand a script to a container.
"""

from __future__ import annotations

import os
import time

from rgrid_runner.shim import frames, tree
from rgrid_runner.shim.frames import STDERR, STDOUT
from rgrid_runner.shim.freezer import Freezer
from rgrid_runner.shim.holder import Holder
from rgrid_runner.shim.linux import BOOT_ID
from rgrid_runner.shim.loop import Loop
from rgrid_runner.shim.order import Order
from rgrid_runner.shim.pipes import Feeder, read_all
from rgrid_runner.shim.sink import Sink

_MS = 1_000_000
_LINGER_NS = 1000 * _MS
_SWEEP_NS = 50 * _MS
_STUCK_NS = 10_000 * _MS
_WATCH_NS = 250 * _MS


class Run:
    """A run from its start until it is ``over``."""

    def __init__(self, order: Order, held: Holder, loop: Loop) -> None:
        """Start the script in ``held``. Raises SpawnError, or OSError for the spool or the stdin file."""
        self.order = order
        self.over = False
        self.stuck = False
        self.reusable = False
        self._held = held
        self._loop = loop
        os.makedirs(order.spool, 0o700, exist_ok=True)  # noqa: PTH103
        self._sink = Sink(self._path(frames.LOG_FILE), order.log_limit)
        self.feeder = Feeder(loop)
        try:
            self._outputs = held.start(self.feeder, self.reap)
        except BaseException:
            self._sink.close()
            raise
        for fd in self._outputs:
            self._listen(fd)
        self.started_wall_ns = time.time_ns()
        self._started = time.monotonic_ns()
        self._ended = 0
        self._ended_wall_ns = 0
        self.freezer = Freezer(held, order.lease_ms, order.lost_after_ms)
        self._cause = frames.BY_ITSELF
        self._reason = b""
        self._kill_at = 0
        self._linger_until = 0
        self._sweep_at = 0
        self._stuck_at = 0
        self._watch_at = self._started + _WATCH_NS if held.watched else 0
        if not _write(self._path(frames.RUN_FILE), frames.pack(frames.RUN, 0, *self._identity())):
            self.kill(frames.BY_DISK, b"", at_once=True)

    @property
    def log_size(self) -> int:
        """Bytes of the log file."""
        return self._sink.size

    # what the agent asks for

    def kill(self, cause: int, reason: bytes, *, at_once: bool = False) -> None:
        """End it: TERM and, when the grace is over, KILL; KILL alone if it is frozen. The first cause stays."""
        self.reap()
        now = time.monotonic_ns()
        if self.over:
            return
        if self._held.status is None and not self._cause:
            self._cause, self._reason = cause, reason
        if at_once or self.freezer.frozen or self._sweep_at or self._held.status is not None:
            self._sweep(now)
        elif not self._kill_at:
            self._kill_at = now + self.order.grace_ms * _MS
            self._held.terminate()

    # what happens to it

    def reap(self) -> None:
        """See what ended, and move on if that changes something."""
        if self.over:
            return
        nothing_left = self._held.reap()
        if not self._ended and (nothing_left or self._held.status is not None):
            self._ended = time.monotonic_ns()
            self._ended_wall_ns = time.time_ns()
        if nothing_left:
            self._finish()
        elif self._ended and not self._sweep_at:
            if self._outputs:
                self._linger_until = self._linger_until or self._ended + _LINGER_NS
            else:
                self._sweep(time.monotonic_ns())

    def tick(self) -> int:
        """Do what is due; returns the nanoseconds until the next look, −1 for none."""
        now = time.monotonic_ns()
        if self._held.status is None and self.freezer.look():
            self._cause = self._cause or frames.BY_LEASE
            self._sweep(now)
        if self._watch_at and now >= self._watch_at and self._held.status is None:
            self._look_at_memory(now)
        timeout_at = self._timeout_at()
        if timeout_at and now >= timeout_at:
            self.kill(frames.BY_TIMEOUT, b"")
        if not self.over and any(due and now >= due for due in (self._kill_at, self._linger_until, self._sweep_at)):
            self._sweep(now)
        if self.over:
            return -1
        dues = [self._kill_at, self._linger_until, self._sweep_at, self._timeout_at()]
        if self._held.status is None:
            dues += [self._watch_at, self.freezer.due(now)]
        return min((max(0, due - now) for due in dues if due), default=-1)

    def status(self) -> list[bytes]:
        """The fields of STATUS (see ``rgrid_runner.backends.spool``), once it is over."""
        sink, usage = self._sink, self._usage
        numbers = (
            -1 if self._held.status is None else self._held.status,
            self._cause,
            self.started_wall_ns,
            self._ended_wall_ns,
            (self._ended - self._started) // _MS,
            usage.cpu_ms,
            usage.peak,
            sink.seq,
            sink.truncated[STDOUT],
            sink.truncated[STDERR],
            usage.peak,
        )
        more = (usage.read, usage.written, self.order.memory)
        reusable = frames.YES if self.reusable else b""
        return [*map(frames.number, numbers), self._reason, sink.stderr_tail, reusable, *map(frames.number, more)]

    def write_status(self) -> bool:
        """Put the status on disk, whole or not at all; False if the disk takes no more.

        Not synced: after a power failure the workspace is not to be trusted either, and the run counts as lost.
        """
        path = self._path(frames.STATUS_FILE)
        if _write(path + b".tmp", frames.pack(frames.STATUS, 0, *self.status())):
            os.rename(path + b".tmp", path)  # noqa: PTH104
            return True
        return not os.path.exists(self.order.spool)  # noqa: PTH110 - removed: nobody will ever look

    # inside

    def _listen(self, fd: int) -> None:
        self._loop.on_readable(fd, lambda: self._readable(fd))

    def _readable(self, fd: int) -> None:
        if not self._copy(fd, rounds=4):
            self._close_output(fd)
            if self._linger_until and not self._outputs:
                self.reap()

    def _copy(self, fd: int, *, rounds: int) -> bool:
        stream = self._outputs[fd]
        return read_all(fd, lambda data: self._sink.write(stream, data), rounds=rounds)

    def _close_output(self, fd: int) -> None:
        self._loop.remove(fd)
        os.close(fd)
        del self._outputs[fd]

    def _timeout_at(self) -> int:
        """When script time runs out on the monotonic clock, 0 for never or not now."""
        if self.order.timeout_ms < 0 or self.freezer.frozen or self._cause or self._held.status is not None:
            return 0
        return self._started + self.freezer.stood_ns + self.order.timeout_ms * _MS

    def _look_at_memory(self, now: int) -> None:
        self._watch_at = now + _WATCH_NS
        if self._held.exceeds_memory():
            self._cause = self._cause or frames.BY_MEMORY
            self._sweep(now)

    def _sweep(self, now: int) -> None:
        """Kill everything; come back until nothing is left."""
        if not self._sweep_at:
            self._stuck_at = now + _STUCK_NS
        self._sweep_at = now + _SWEEP_NS
        self._kill_at = self._linger_until = 0
        self._held.kill()
        self.reap()
        if now >= self._stuck_at and not self.over:
            self.stuck = True  # hung in the kernel, on a dead disk perhaps: not ours to wait for
            self._finish()

    def _finish(self) -> None:
        for fd in list(self._outputs):
            self._copy(fd, rounds=16)  # what a pipe can hold
            self._close_output(fd)
        self.feeder.close()
        if not self._cause and self._held.ran_out_of_memory():
            self._cause = frames.BY_MEMORY
        if not self._cause and self._held.lost:
            self._cause = frames.BY_LOSS
        self._ended = self._ended or time.monotonic_ns()
        self._ended_wall_ns = self._ended_wall_ns or time.time_ns()
        self._usage = self._held.usage()
        self.reusable = self._held.leave(stuck=self.stuck)
        self._sink.close()
        self.over = True

    def _identity(self) -> list[bytes]:
        """The fields of RUN: who to look for if the shim dies."""
        marks = [
            name + b"=" + value
            for name, value in self.order.env.items()
            if name in (b"RGRID_EXECUTION_ID", b"RGRID_ATTEMPT")
        ]
        me, script = os.getpid(), self._held.pid
        script_tick = tree.start_tick(script) if script else 0
        numbers = (me, tree.start_tick(me), script, script_tick, self.started_wall_ns)
        return [BOOT_ID, *map(frames.number, numbers), *marks, *self._held.identity()]

    def _path(self, name: str) -> bytes:
        return self.order.spool + b"/" + name.encode()


def _write(path: bytes, data: bytes) -> bool:
    """False if the disk did not take all of it."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        return os.write(fd, data) == len(data)
    except OSError:
        return False
    finally:
        os.close(fd)
