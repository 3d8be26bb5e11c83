"""A container's cgroup, seen from the host: versions 1 and 2.

Everything here takes effect from outside: nothing in the container can see it coming or refuse.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # ``signal`` without the enum module
import errno
import os
import time

_ROOT = "/sys/fs/cgroup"
_PROC = "/proc"
_ROUNDS = 200
_CONTROLLERS = ("freezer", "memory", "cpu", "cpuacct", "pids")
_PERIOD_US = 100_000
_CACHE_BYTES = 16 << 20
"""More than this in an idle container is the page cache of an earlier run's files: not this run's memory."""
_LEAST_QUOTA_US = 1000

TYPE_CHECKING = False  # ``typing`` costs 10 ms
if TYPE_CHECKING:
    from collections.abc import Collection


class Reach:
    """The processes of a cgroup. ``directory``: of the freezer in version 1, else the only one there is."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._unified = os.path.exists(f"{directory}/cgroup.freeze")  # noqa: PTH110 - pathlib costs 8 ms

    def pids(self) -> list[int]:
        """All processes, none if the cgroup is gone. What belongs to other process namespaces is not told."""
        try:
            return [pid for pid in map(int, read(f"{self.directory}/cgroup.procs").split()) if pid]
        except OSError:
            return []

    def freeze(self) -> bool:
        """Stop all of it; True once everything stands, False if something does not (it hangs in the kernel)."""
        for turn in range(_ROUNDS):
            try:
                if self._unified:
                    if turn == 0:
                        write(f"{self.directory}/cgroup.freeze", b"1")
                    stands = b"frozen 1" in read(f"{self.directory}/cgroup.events")
                else:
                    write(f"{self.directory}/freezer.state", b"FROZEN")  # again: what was just forked may be late
                    stands = read(f"{self.directory}/freezer.state").strip() == b"FROZEN"
            except OSError:
                return True  # gone
            if stands:
                return True
            time.sleep(0.001)
        return False

    def thaw(self) -> None:
        """Let it go on."""
        try:
            if self._unified:
                write(f"{self.directory}/cgroup.freeze", b"0")
            else:
                write(f"{self.directory}/freezer.state", b"THAWED")
        except OSError:
            return  # gone

    def kill(self, spare: Collection[int] = ()) -> None:
        """Kill everything but ``spare``. Frozen meanwhile: no fork outruns it, and what stood does not run again."""
        self.freeze()
        for pid in self.pids():
            if pid not in spare:
                try:
                    os.kill(pid, _signal.SIGKILL)
                except ProcessLookupError:
                    continue  # it ended before it stood
        self.thaw()


class Cgroup(Reach):
    """What a container may use, and what it used. All of it can raise OSError: the container may end at any time."""

    samples = False
    """True if the peak of memory is only exact when ``memory`` is asked for now and then."""

    def limit(self, *, memory: int, cpu_millis: int, pids: int) -> None:
        """Set the limits (bytes of memory without any swap); 0 for none."""
        raise NotImplementedError

    def begin(self) -> None:
        """From here on memory, processor time and OOM kills count."""
        raise NotImplementedError

    def memory(self) -> int:
        """Bytes in use now, the page cache of its files included."""
        raise NotImplementedError

    def peak(self) -> int:
        """The largest ``memory`` since ``begin``."""
        raise NotImplementedError

    def cpu_ms(self) -> int:
        """Milliseconds of processor time since ``begin``."""
        raise NotImplementedError

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for lack of memory since ``begin``."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what ``begin`` opened."""


def quota_us(cpu_millis: int) -> int:
    """Microseconds of processor time in each period of 100 ms."""
    return max(_LEAST_QUOTA_US, cpu_millis * _PERIOD_US // 1000)


class CgroupV1(Cgroup):
    """One directory for each controller."""

    def __init__(self, directories: dict[str, str]) -> None:
        super().__init__(directories["freezer"])
        self._memory = directories["memory"]
        self._cpu = directories["cpu"]
        self._cpuacct = directories["cpuacct"]
        self._pids = directories["pids"]
        self._cpu_ns = self._oom = 0

    def limit(self, *, memory: int, cpu_millis: int, pids: int) -> None:
        """See ``Cgroup``."""
        self._limit_memory(b"%d" % (memory or -1))
        write(f"{self._cpu}/cpu.cfs_period_us", b"%d" % _PERIOD_US)
        write(f"{self._cpu}/cpu.cfs_quota_us", b"%d" % (quota_us(cpu_millis) if cpu_millis else -1))
        write(f"{self._pids}/pids.max", b"%d" % pids if pids else b"max")

    def _limit_memory(self, limit: bytes) -> None:
        """Memory must never be above memory and swap: lowered first, or raised last."""
        plain, both = f"{self._memory}/memory.limit_in_bytes", f"{self._memory}/memory.memsw.limit_in_bytes"
        if not os.path.exists(both):  # noqa: PTH110 - a kernel that does not count swap
            write(plain, limit)
            write(f"{self._memory}/memory.swappiness", b"0")
            return
        try:
            write(plain, limit)
        except OSError:
            write(both, limit)
            write(plain, limit)
        else:
            write(both, limit)

    def begin(self) -> None:
        """See ``Cgroup``."""
        if self.memory() > _CACHE_BYTES:
            write(f"{self._memory}/memory.force_empty", b"0")
        write(f"{self._memory}/memory.max_usage_in_bytes", b"0")
        self._cpu_ns = int(read(f"{self._cpuacct}/cpuacct.usage"))
        self._oom = _value(f"{self._memory}/memory.oom_control", b"oom_kill")

    def memory(self) -> int:
        """See ``Cgroup``."""
        return int(read(f"{self._memory}/memory.usage_in_bytes"))

    def peak(self) -> int:
        """See ``Cgroup``."""
        return int(read(f"{self._memory}/memory.max_usage_in_bytes"))

    def cpu_ms(self) -> int:
        """See ``Cgroup``."""
        return (int(read(f"{self._cpuacct}/cpuacct.usage")) - self._cpu_ns) // 1_000_000

    def oom_kills(self) -> int:
        """See ``Cgroup``."""
        return _value(f"{self._memory}/memory.oom_control", b"oom_kill") - self._oom


class CgroupV2(Cgroup):
    """One directory.

    A peak can be reset since Linux 6.12. Before, ``memory.peak`` (5.19) holds that of the container's whole life: it
    is this run's if it has risen since ``begin``; if not, the largest sample is taken, as on a kernel without it.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._peak_fd = -1
        self._peak_before = self._sampled = 0
        self._cpu_us = self._oom = 0

    def limit(self, *, memory: int, cpu_millis: int, pids: int) -> None:
        """See ``Cgroup``."""
        write(f"{self.directory}/memory.max", b"%d" % memory if memory else b"max")
        if os.path.exists(f"{self.directory}/memory.swap.max"):  # noqa: PTH110 - there is none where there is no swap
            write(f"{self.directory}/memory.swap.max", b"0" if memory else b"max")
        quota = b"%d" % quota_us(cpu_millis) if cpu_millis else b"max"
        write(f"{self.directory}/cpu.max", b"%s %d" % (quota, _PERIOD_US))
        write(f"{self.directory}/pids.max", b"%d" % pids if pids else b"max")

    def begin(self) -> None:
        """See ``Cgroup``."""
        if self.memory() > _CACHE_BYTES:
            self._reclaim()
        self._sampled = 0
        self._cpu_us = _value(f"{self.directory}/cpu.stat", b"usage_usec")
        self._oom = _value(f"{self.directory}/memory.events", b"oom_kill")
        self._reset_peak()

    def _reclaim(self) -> None:
        try:
            write(f"{self.directory}/memory.reclaim", b"%d" % self.memory())
        except OSError:
            return  # older than Linux 5.19, or less than all of it could be taken back, which is the usual answer

    def _reset_peak(self) -> None:
        """A reset is seen through the descriptor that asked for it, and through no other."""
        self.close()
        path = f"{self.directory}/memory.peak"
        try:
            self._peak_before = int(read(path))
            self._peak_fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            os.write(self._peak_fd, b"reset")
        except OSError:
            self.close()
        self.samples = self._peak_fd < 0

    def close(self) -> None:
        """See ``Cgroup``."""
        if self._peak_fd >= 0:
            os.close(self._peak_fd)
            self._peak_fd = -1

    def memory(self) -> int:
        """See ``Cgroup``."""
        now = int(read(f"{self.directory}/memory.current"))
        self._sampled = max(self._sampled, now)
        return now

    def peak(self) -> int:
        """See ``Cgroup``."""
        if self._peak_fd >= 0:
            return int(os.pread(self._peak_fd, 64, 0))
        now = self.memory()
        try:
            whole = int(read(f"{self.directory}/memory.peak"))
        except FileNotFoundError:
            whole = 0
        return whole if whole > self._peak_before else max(self._sampled, now)

    def cpu_ms(self) -> int:
        """See ``Cgroup``."""
        return (_value(f"{self.directory}/cpu.stat", b"usage_usec") - self._cpu_us) // 1000

    def oom_kills(self) -> int:
        """See ``Cgroup``."""
        return _value(f"{self.directory}/memory.events", b"oom_kill") - self._oom


def find(pid: int, *, proc: str = _PROC, root: str = _ROOT) -> Cgroup:
    """The cgroup of a process. Raises OSError if it is not to be seen from here (another cgroup namespace)."""
    paths: dict[str, list[str]] = {}
    for line in read(f"{proc}/{pid}/cgroup").decode().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = [f"{root}/{name}{path}", f"{root}/{names}{path}"]  # together mounted, and often linked
    if os.path.exists(f"{root}/cgroup.controllers"):  # noqa: PTH110
        return CgroupV2(_existing(paths.get("", [])))
    return CgroupV1({name: _existing(paths.get(name, [])) for name in _CONTROLLERS})


def _existing(paths: list[str]) -> str:
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112
            return path
    raise FileNotFoundError(errno.ENOENT, "no such cgroup", *paths[:1])


def _value(path: str, name: bytes) -> int:
    """The number behind ``name`` in a file of ``name number`` lines, 0 if it is not there."""
    for line in read(path).splitlines():
        key, _, value = line.partition(b" ")
        if key == name:
            return int(value)
    return 0


def read(path: str) -> bytes:
    """The content of a small file of the kernel's."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def write(path: str, data: bytes) -> None:
    """Write to a file of the kernel's, in one go."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
