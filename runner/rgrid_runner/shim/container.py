"""A script in a container that was up before it: reached by FIFOs, its cgroup, and a pidfd of its PID 1, the keeper.

::

    limits ─▶ mounts ─▶ order, go ─▶ (keeper: started) … (keeper: exited) ─▶ unmounted ─▶ anything left? ─▶ reusable

What the keeper says is heard with suspicion, because a script runs under its user and can write to the same FIFO:
lines are short and of a few kinds, anything else is passed over, and nothing waits for one but the start, when no
script is there yet. A script can lie about its own exit status in that way, and about nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import time

from rgrid_runner.shim import cgroup, mounts, orders, tree
from rgrid_runner.shim.frames import STDERR, STDOUT, number
from rgrid_runner.shim.guard import Note
from rgrid_runner.shim.holder import Holder, Usage
from rgrid_runner.shim.linux import disk_bytes
from rgrid_runner.shim.loop import Loop
from rgrid_runner.shim.order import Order
from rgrid_runner.shim.pipes import Feeder, enlarge
from rgrid_runner.shim.place import Place
from rgrid_runner.shim.spawn import SpawnError

TYPE_CHECKING = False  # ``typing`` costs 10 ms
if TYPE_CHECKING:
    from collections.abc import Callable

_PROTOCOL = b"1"
_STEPS = (b"cwd", b"exec", b"control")
_ANSWER_NS = 30_000_000_000
_LONGEST_LINE = 100
_LONGEST_NUMBER = 9
_MAX_STATUS = 0xFFFF
_GONE_ROUNDS = 20
_OWN_PIDS = 2
"""The keeper, and a warm interpreter."""


class Container(Holder):
    """One run in one container. It holds ``go`` as long as the run lasts, so that the container does."""

    def __init__(self, order: Order, place: Place, loop: Loop, note: Note) -> None:
        self._order = order
        self._place = place
        self._loop = loop
        self._note = note
        self._cgroup: cgroup.Cgroup
        self._own: frozenset[int] = frozenset()
        self._mounted = b""
        self._disk = 0, 0
        self._fds: dict[str, int] = {}
        self._heard = b""
        self._inside = 0  # the script's pid in the container
        self._refused: SpawnError | None = None

    # the start

    def start(self, feeder: Feeder, changed: Callable[[], None]) -> dict[int, int]:
        """See ``Holder``."""
        stdin = os.open(self._order.stdin, os.O_RDONLY | os.O_CLOEXEC) if self._order.stdin.startswith(b"/") else -1
        try:
            self._find()
            self._enter()
            self._hand_over()
            stdin = self._connect(feeder, stdin)
        except SpawnError as error:
            error.reusable = bool(self._fds) and self.leave(stuck=False)
            raise
        finally:
            if stdin >= 0:
                os.close(stdin)
        for name in ("status", "keeper"):
            self._loop.on_readable(self._fds[name], changed)
        return {self._fds.pop("out"): STDOUT, self._fds.pop("err"): STDERR}

    def _find(self) -> None:
        """See that the container is up and idle. Raises SpawnError; nothing was touched then."""
        keeper = self._place.keeper
        lock = -1
        try:
            lock = os.open(self._place.control, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # another shim has a run in it
            self._cgroup = cgroup.find(keeper)
            self._mounted = mounts.table(keeper)
            self._own = frozenset(self._cgroup.pids())  # what runs in a container between two runs belongs to it
            if keeper not in self._own or len(self._own) > _OWN_PIDS:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            self._fds |= {"keeper": os.pidfd_open(keeper), "lock": lock}
        except OSError as error:
            if lock >= 0:
                os.close(lock)
            raise SpawnError(error.errno or 0, "container") from error
        self._note.write(self._cgroup.directory)

    def _enter(self) -> None:
        """Set the limits, and mount what this run brings. Raises SpawnError."""
        place = self._place
        try:
            pids = place.pids + _OWN_PIDS if place.pids else 0
            self._cgroup.limit(memory=self._order.memory, cpu_millis=place.cpu_millis, pids=pids)
            self._cgroup.begin()
            self.watched = self._order.memory > 0 or self._cgroup.samples
            self._disk = self._disk_bytes()
        except OSError as error:
            raise SpawnError(error.errno or 0, "cgroup") from error
        try:
            mounts.insert(place.keeper, place.root, [(mounts.TMP, place.tmp), (mounts.SHM, place.shm)], place.mounts)
        except mounts.MountError as error:
            raise SpawnError(error.errno, f"mount {error.path}") from error

    def _hand_over(self) -> None:
        """Order the script, and hear that it runs. Raises SpawnError."""
        place, order = self._place, self._order
        words = orders.for_shell(order) if place.shell else orders.for_python(order, warm=place.warm)
        path = self._path("order")
        try:
            for name in ("out", "err"):
                self._fds[name] = self._fifo(name, os.O_RDONLY)
                enlarge(self._fds[name])
            self._fds["status"] = self._fifo("status", os.O_RDWR)  # it is opened and closed there for each line
            self._fds["go"] = self._fifo("go", os.O_WRONLY)
            if self._order.stdin:
                self._fds["in"] = self._fifo("in", os.O_RDWR)  # there is no reader yet that would let us write
            try:
                _write(path, words)
                os.write(self._fds["go"], b"\n")
                self._await_start()
            finally:
                os.unlink(path)  # noqa: PTH108 - what is in it, the environment above all, is nobody else's affair
        except OSError as error:
            raise SpawnError(error.errno or 0, "control") from error

    def _await_start(self) -> None:
        until = time.monotonic_ns() + _ANSWER_NS
        poll = select.poll()
        poll.register(self._fds["status"], select.POLLIN)
        poll.register(self._fds["keeper"], select.POLLIN)
        while not self._inside:
            left = until - time.monotonic_ns()
            if left <= 0:
                raise SpawnError(errno.ETIMEDOUT, "keeper")
            poll.poll(left // 1_000_000 + 1)
            self._hear()
            if self._refused:
                raise self._refused
            if not self._inside and self._died():
                raise SpawnError(errno.ESRCH, "keeper")

    def _connect(self, feeder: Feeder, source: int) -> int:
        """Let ``feeder`` write to the script's stdin, from ``source`` if that is a file; returns it unless taken."""
        if not self._order.stdin:
            return source
        try:
            feeder.adopt(self._fifo("in", os.O_WRONLY), source)
        except OSError:
            return source  # the script has closed its stdin already, or ended
        finally:
            os.close(self._fds.pop("in"))
        return -1

    # while it lasts

    def reap(self) -> bool:
        """See ``Holder``."""
        self._hear()
        if self._died():
            self.lost = self.status is None
            return True
        return self.status is not None and not self._others()

    def terminate(self) -> None:
        """See ``Holder``."""
        for pid in self._others():
            if _number_inside(pid) == self._inside:
                tree.terminate(tree.group_of(pid))

    def kill(self) -> None:
        """See ``Holder``."""
        self._cgroup.kill(self._own)
        for _ in range(_GONE_ROUNDS):
            if not self._others():
                return
            time.sleep(0.001)

    def stop(self) -> None:
        """See ``Holder``."""
        self._cgroup.freeze()

    def resume(self) -> None:
        """See ``Holder``."""
        self._cgroup.thaw()

    def exceeds_memory(self) -> bool:
        """See ``Holder``: the kernel has killed one of its processes, so the others may wait for that for ever."""
        if self._cgroup.samples:
            self._sample()
        return self.ran_out_of_memory()

    def _sample(self) -> None:
        try:
            self._cgroup.memory()
        except OSError:
            return  # the container ends

    def ran_out_of_memory(self) -> bool:
        """See ``Holder``."""
        try:
            return self._cgroup.oom_kills() > 0
        except OSError:
            return False  # the container is gone, and its counters with it

    def usage(self) -> Usage:
        """See ``Holder``; nothing if the container is gone."""
        try:
            cpu_ms, peak = self._cgroup.cpu_ms(), self._cgroup.peak()
        except OSError:
            return Usage(0, 0, 0, 0)
        read, written = self._disk_bytes()
        return Usage(cpu_ms, peak, max(0, read - self._disk[0]), max(0, written - self._disk[1]))

    def identity(self) -> list[bytes]:
        """See ``Holder``; read by ``rgrid_runner.backends.spool``."""
        place = self._place
        directory = os.fsencode(self._cgroup.directory)
        tick = number(tree.start_tick(place.keeper))
        return [b"", place.name, place.control, number(place.keeper), tick, directory]

    # the end

    def leave(self, *, stuck: bool) -> bool:
        """See ``Holder``. A container that cannot serve again is ended here, with what was mounted in it."""
        reusable = not stuck and self._is_clean()
        if not reusable:
            self._end()
        for name, fd in self._fds.items():
            if name in ("status", "keeper"):
                self._loop.remove(fd)
            os.close(fd)
        self._fds.clear()
        self._cgroup.close()
        self._note.write("")
        return reusable

    def _is_clean(self) -> bool:
        keeper = self._place.keeper
        if self._died() or self._others():
            return False
        try:
            nothing_left = mounts.clear(keeper, self._mounted)
        except mounts.MountError:
            return False
        return nothing_left and not self._others() and not self._died()

    def _end(self) -> None:
        for _ in range(_GONE_ROUNDS):
            self._cgroup.kill()
            if self._died():
                return
            time.sleep(0.001)

    # inside

    def _others(self) -> list[int]:
        return [pid for pid in self._cgroup.pids() if pid not in self._own]

    def _died(self) -> bool:
        """True if PID 1 ended, and so everything in the container."""
        poll = select.poll()
        poll.register(self._fds["keeper"], select.POLLIN)
        return bool(poll.poll(0))

    def _hear(self) -> None:
        """Take in what is said on ``status``."""
        try:
            data = os.read(self._fds["status"], 4096)
        except BlockingIOError:
            return
        *lines, rest = (self._heard + data).split(b"\n")
        self._heard = rest[-_LONGEST_LINE:]
        for line in lines:
            words = line.split(b" ")
            if len(words) > 2 and words[0] == _PROTOCOL and words[-1].isdigit():
                self._learn(words[1:])

    def _learn(self, words: list[bytes]) -> None:
        kind, value = words[0], int(words[-1][:_LONGEST_NUMBER])
        if kind == b"started" and len(words) == 2 and not self._inside:
            self._inside = value
        elif kind == b"warm" and len(words) == 2 and not self._inside:
            self._own |= {pid for pid in self._others() if _number_inside(pid) == value}
        elif kind == b"failed" and len(words) == 3 and not self._inside and words[1] in _STEPS:
            self._refused = SpawnError(value, words[1].decode())
        elif kind == b"exited" and len(words) == 2 and self._inside and self.status is None and value <= _MAX_STATUS:
            self.status = value

    def _disk_bytes(self) -> tuple[int, int]:
        each = [disk_bytes(pid) for pid in self._own]
        return sum(read for read, _ in each), sum(written for _, written in each)

    def _fifo(self, name: str, flags: int) -> int:
        return os.open(self._path(name), flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _path(self, name: str) -> bytes:
        return self._place.control + b"/" + name.encode()


def _number_inside(pid: int) -> int:
    """A process's number in the innermost namespace that it is in, 0 if it is gone."""
    try:
        _, _, rest = cgroup.read(f"/proc/{pid}/status").partition(b"\nNSpid:")
    except OSError:
        return 0
    return int(rest.split(b"\n", 1)[0].split()[-1])


def _write(path: bytes, data: bytes) -> None:
    """A file for the keeper alone."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(fd, 0, os.stat(os.path.dirname(path)).st_gid)  # noqa: PTH116, PTH120
        os.fchmod(fd, 0o640)
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)
