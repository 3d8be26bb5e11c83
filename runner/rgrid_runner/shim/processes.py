"""A script as an ordinary child of the shim, with all its descendants."""

from __future__ import annotations

import os

from rgrid_runner.shim import tree
from rgrid_runner.shim.frames import STDERR, STDOUT
from rgrid_runner.shim.holder import Holder, Usage
from rgrid_runner.shim.linux import disk_bytes, oom_kills
from rgrid_runner.shim.order import STREAM, Order
from rgrid_runner.shim.pipes import Feeder, output_pipe
from rgrid_runner.shim.spawn import spawn

TYPE_CHECKING = False  # ``typing`` costs 10 ms
if TYPE_CHECKING:
    from collections.abc import Callable

_KILL = 9


class Processes(Holder):
    """Everything below this process: orphans come to it. Its memory is watched, because nothing fences it."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._me = os.getpid()
        self.watched = order.memory > 0
        self._oom_kills = oom_kills()
        self._cpu_s = 0.0
        self._max_rss = 0
        self._seen = 0  # the largest sum over the tree that was seen
        self._disk = self._collected()

    def start(self, feeder: Feeder, changed: Callable[[], None]) -> dict[int, int]:
        """See ``Holder``. Children tell of themselves by SIGCHLD."""
        stdin = self._open_stdin(feeder)
        pipes: list[tuple[int, int]] = []
        try:
            pipes += [output_pipe(), output_pipe()]
            order = self._order
            self.pid = spawn(order.argv, order.env, order.cwd, stdin, pipes[0][1], pipes[1][1])
        except BaseException:
            for reading, _ in pipes:
                os.close(reading)
            feeder.close()
            raise
        finally:
            os.close(stdin)
            for _, writing in pipes:
                os.close(writing)
        return {pipes[0][0]: STDOUT, pipes[1][0]: STDERR}

    def reap(self) -> bool:
        """See ``Holder``."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            self._cpu_s += usage.ru_utime + usage.ru_stime
            self._max_rss = max(self._max_rss, usage.ru_maxrss)
            if pid == self.pid:
                self.status = status

    def terminate(self) -> None:
        """See ``Holder``."""
        tree.terminate(self.pid)

    def kill(self) -> None:
        """See ``Holder``."""
        tree.kill(self._me, self.pid)

    def stop(self) -> None:
        """See ``Holder``."""
        tree.stop(self._me, self.pid)

    def resume(self) -> None:
        """See ``Holder``."""
        tree.resume(self._me, self.pid)

    def exceeds_memory(self) -> bool:
        """See ``Holder``."""
        used = tree.memory(self._me, self._order.memory)
        self._seen = max(self._seen, used)
        return used > self._order.memory

    def ran_out_of_memory(self) -> bool:
        """See ``Holder``."""
        killed = self.status is not None and os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == _KILL
        return killed and oom_kills() > self._oom_kills

    def usage(self) -> Usage:
        """See ``Holder``."""
        largest = self._max_rss * (1 if os.uname().sysname == "Darwin" else 1024)
        read, written = self._collected()
        return Usage(int(self._cpu_s * 1000), max(largest, self._seen), read - self._disk[0], written - self._disk[1])

    def identity(self) -> list[bytes]:
        """See ``Holder``: the script's pid says it."""
        return []

    def leave(self, *, stuck: bool) -> bool:
        """See ``Holder``."""
        return not stuck

    def _collected(self) -> tuple[int, int]:
        """Bytes from and to disks of all children that were ever collected: what is ours but not our one thread's."""
        read, written = disk_bytes(self._me)
        mine = disk_bytes(self._me, self._me)
        return read - mine[0], written - mine[1]

    def _open_stdin(self, feeder: Feeder) -> int:
        if self._order.stdin == STREAM:
            return feeder.open()
        return os.open(self._order.stdin or b"/dev/null", os.O_RDONLY | os.O_CLOEXEC)
