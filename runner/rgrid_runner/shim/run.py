"""One run: a script's process, its pipes, its clock, and its end.

::

    runs ──(exits)──▶ lingers ──▶ sweeps ──▶ over
      └─(timeout, memory, request, lease: TERM, grace)──▶ sweeps

*Lingers*: the script is gone but something that it started holds its output; it has a second. *Sweeps*: whatever is
left is killed until nothing is. *Over*: the status is on disk. Nothing here blocks for longer than it takes to stop
a process tree.
"""

from __future__ import annotations

import os
import time

from rgrid_runner.shim import frames, tree
from rgrid_runner.shim.frames import STDERR, STDOUT
from rgrid_runner.shim.freezer import Freezer
from rgrid_runner.shim.linux import BOOT_ID, oom_kills
from rgrid_runner.shim.loop import Loop
from rgrid_runner.shim.order import STREAM, Order
from rgrid_runner.shim.pipes import Feeder, output_pipe, read_all
from rgrid_runner.shim.sink import Sink
from rgrid_runner.shim.spawn import spawn

_MS = 1_000_000
_LINGER_NS = 1000 * _MS
_SWEEP_NS = 50 * _MS
_STUCK_NS = 10_000 * _MS
_WATCH_NS = 250 * _MS


class Run:
    """A run from its start until it is ``over``."""

    def __init__(self, order: Order, loop: Loop) -> None:
        """Start the script. Raises SpawnError, or OSError for the spool or the stdin file."""
        self.order = order
        self.over = False
        self.stuck = False
        self._loop = loop
        self._me = os.getpid()
        os.makedirs(order.spool, 0o700, exist_ok=True)  # noqa: PTH103
        self._sink = Sink(self._path(frames.LOG_FILE), order.log_limit)
        self._outputs: dict[int, int] = {}
        self.feeder = Feeder(loop)
        try:
            self._spawn()
        except BaseException:
            self._sink.close()
            raise
        self.started_wall_ns = time.time_ns()
        self._started = time.monotonic_ns()
        self._ended = 0
        self._ended_wall_ns = 0
        self._oom_kills = oom_kills()
        self._status: int | None = None
        self.freezer = Freezer(self._me, self.pid, order.lease_ms, order.lost_after_ms)
        self._cause = frames.BY_ITSELF
        self._reason = b""
        self._cpu_s = 0.0
        self._max_rss = 0
        self._peak = 0  # the largest sum over the tree that was seen
        self._kill_at = 0
        self._linger_until = 0
        self._sweep_at = 0
        self._stuck_at = 0
        self._watch_at = self._started + _WATCH_NS if order.memory else 0
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
        if self._status is None and not self._cause:
            self._cause, self._reason = cause, reason
        if at_once or self.freezer.frozen or self._sweep_at or self._status is not None:
            self._sweep(now)
        elif not self._kill_at:
            self._kill_at = now + self.order.grace_ms * _MS
            tree.terminate(self.pid)

    # what happens to it

    def reap(self) -> None:
        """Collect children that ended, and move on if that changes something."""
        alone = False
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                alone = True
                break
            if pid == 0:
                break
            self._cpu_s += usage.ru_utime + usage.ru_stime
            self._max_rss = max(self._max_rss, usage.ru_maxrss)
            if pid == self.pid:
                self._status = status
                self._ended = time.monotonic_ns()
                self._ended_wall_ns = time.time_ns()
        if self._status is None or self.over:
            return
        if alone:
            self._finish()
        elif not self._sweep_at:
            if self._outputs:
                self._linger_until = self._linger_until or self._ended + _LINGER_NS
            else:
                self._sweep(time.monotonic_ns())

    def tick(self) -> int:
        """Do what is due; returns the nanoseconds until the next look, −1 for none."""
        now = time.monotonic_ns()
        if self._status is None and self.freezer.look():
            self._cause = self._cause or frames.BY_LEASE
            self._sweep(now)
        if self._watch_at and now >= self._watch_at and self._status is None:
            self._look_at_memory(now)
        timeout_at = self._timeout_at()
        if timeout_at and now >= timeout_at:
            self.kill(frames.BY_TIMEOUT, b"")
        if not self.over and any(due and now >= due for due in (self._kill_at, self._linger_until, self._sweep_at)):
            self._sweep(now)
        if self.over:
            return -1
        dues = [self._kill_at, self._linger_until, self._sweep_at, self._timeout_at()]
        if self._status is None:
            dues += [self._watch_at, self.freezer.due(now)]
        return min((max(0, due - now) for due in dues if due), default=-1)

    def status(self) -> list[bytes]:
        """The fields of STATUS (see ``rgrid_runner.backends.spool``)."""
        sink = self._sink
        numbers = (
            -1 if self._status is None else self._status,
            self._cause,
            self.started_wall_ns,
            self._ended_wall_ns or time.time_ns(),
            ((self._ended or time.monotonic_ns()) - self._started) // _MS,
            int(self._cpu_s * 1000),
            max(self._max_rss * (1 if os.uname().sysname == "Darwin" else 1024), self._peak),
            sink.seq,
            sink.truncated[STDOUT],
            sink.truncated[STDERR],
            self._peak,
        )
        return [*map(frames.number, numbers), self._reason, sink.stderr_tail]

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

    def _spawn(self) -> None:
        stdin = self._open_stdin()
        pipes: list[tuple[int, int]] = []
        try:
            pipes += [output_pipe(), output_pipe()]
            self.pid = spawn(self.order.argv, self.order.env, self.order.cwd, stdin, pipes[0][1], pipes[1][1])
        except BaseException:
            for reading, _ in pipes:
                os.close(reading)
            self.feeder.close()
            raise
        finally:
            os.close(stdin)
            for _, writing in pipes:
                os.close(writing)
        for stream, (reading, _) in zip((STDOUT, STDERR), pipes, strict=True):
            self._outputs[reading] = stream
            self._listen(reading)

    def _open_stdin(self) -> int:
        if self.order.stdin == STREAM:
            return self.feeder.open()
        return os.open(self.order.stdin or b"/dev/null", os.O_RDONLY | os.O_CLOEXEC)

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
        if self.order.timeout_ms < 0 or self.freezer.frozen or self._cause or self._status is not None:
            return 0
        return self._started + self.freezer.stood_ns + self.order.timeout_ms * _MS

    def _look_at_memory(self, now: int) -> None:
        self._watch_at = now + _WATCH_NS
        used = tree.memory(self._me, self.order.memory)
        self._peak = max(self._peak, used)
        if used > self.order.memory:
            self._cause = self._cause or frames.BY_MEMORY
            self._sweep(now)

    def _sweep(self, now: int) -> None:
        """Kill everything; come back until nothing is left."""
        if not self._sweep_at:
            self._stuck_at = now + _STUCK_NS
        self._sweep_at = now + _SWEEP_NS
        self._kill_at = self._linger_until = 0
        tree.kill(self._me, self.pid)
        self.reap()
        if now >= self._stuck_at and not self.over:
            self.stuck = True  # hung in the kernel, on a dead disk perhaps: not ours to wait for
            self._finish()

    def _finish(self) -> None:
        for fd in list(self._outputs):
            self._copy(fd, rounds=16)  # what a pipe can hold
            self._close_output(fd)
        self.feeder.close()
        killed = self._status is not None and os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) == 9
        if killed and not self._cause and oom_kills() > self._oom_kills:
            self._cause = frames.BY_MEMORY
        self._ended = self._ended or time.monotonic_ns()
        self._ended_wall_ns = self._ended_wall_ns or time.time_ns()
        self._sink.close()
        self.over = True

    def _identity(self) -> list[bytes]:
        """The fields of RUN: who to look for if the shim dies."""
        marks = [
            name + b"=" + value
            for name, value in self.order.env.items()
            if name in (b"RGRID_EXECUTION_ID", b"RGRID_ATTEMPT")
        ]
        numbers = (self._me, tree.start_tick(self._me), self.pid, tree.start_tick(self.pid), self.started_wall_ns)
        return [BOOT_ID, *map(frames.number, numbers), *marks]

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
