"""PID 1 of a container that waits for scripts. Standard library only, any Python from 3.7 on, no package around it.

It starts what the host orders, hands back the raw wait status, and reaps what scripts leave behind. It decides
nothing: the host signals, limits, freezes and kills from outside. It ends, and the container with it, when nobody on
the host holds ``go`` open any more.

What it says on ``status``, one line each, all with the protocol's number first::

    1 warm PID             an interpreter is kept from now on (only before ``started``)
    1 started PID          the script's process exists (its number in here)
    1 failed STEP ERRNO    it could not be made: cwd, exec, control
    1 exited STATUS        as wait(2) tells it
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # ``signal`` costs 5 ms for its enums
import errno
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CONTROL = b"/rgrid/ctl/"
WARM = b"/rgrid/lib/warm"
HARMLESS = (b"PYTHONUNBUFFERED", b"PYTHONDONTWRITEBYTECODE")
PROTOCOL = b"1"
_PR_SET_DUMPABLE = 4


def _find_prctl() -> Callable[..., int]:
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return lambda *_: 0  # a trimmed Python: scripts of one batch can look into this process


_prctl = _find_prctl()


class Failure(Exception):
    """A script's process could not be made: ``words`` for the host."""

    def __init__(self, words: bytes) -> None:
        super().__init__(words)
        self.words = words


class Keeper:
    """Serves one order after another."""

    def __init__(self) -> None:
        _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no script may trace PID 1 or open its descriptors
        self._script = 0
        self._warm: Warm | None = None
        self._poll = select.poll()
        self._go = os.open(CONTROL + b"go", os.O_RDONLY | os.O_NONBLOCK)
        self._wake, write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(write, False)
        _signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGCHLD, lambda *_: None)
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # without a handler PID 1 is deaf to what scripts send

    def serve(self) -> None:
        """Until the host lets go."""
        self._poll.register(self._go, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        while self._obey():
            ready = [fd for fd, _ in self._poll.poll()]
            if self._warm and self._warm.answers in ready:
                self._relay(self._warm)
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()

    def _obey(self) -> bool:
        """Start what is ordered, if anything is; False if nobody on the host is left."""
        try:
            line = os.read(self._go, 4096)
        except BlockingIOError:
            return True
        if line:
            self._start()
        return bool(line)

    def _start(self) -> None:
        try:
            with open(CONTROL + b"order", "rb") as file:  # noqa: PTH123
                order = Order(file.read())
            if not self._hand_on(order):
                self._script = spawn(order, order.env)
                say(b"started %d" % self._script)
        except Failure as failure:
            say(failure.words)
        except OSError as error:
            say(b"failed control %d" % (error.errno or 0))

    def _hand_on(self, order: Order) -> bool:
        """Let the warm interpreter run it, or a new one; False if this order needs an interpreter of its own."""
        if not order.may_be_warm():
            return False
        if self._warm is None:
            self._warm = Warm(order)
            self._poll.register(self._warm.answers, select.POLLIN)
        elif not self._warm.first.starts_like(order):
            return False
        self._warm.send(order)
        return True

    def _relay(self, warm: Warm) -> None:
        """Pass on what the warm interpreter says."""
        for line in warm.hear():
            kind, _, value = line.partition(b" ")
            if kind == b"ready":
                say(b"warm %d" % warm.pid)
            elif kind == b"unfit":
                self._script = warm.pid
                self._cool(warm)
                say(b"started %d" % self._script)
                return
            elif kind == b"started":
                self._script = int(value)
                say(line)
            elif kind == b"failed" or self._script:  # one that failed exits, too
                self._script = 0
                warm.waiting = False
                say(line)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._warm and pid == self._warm.pid:
                self._relay(self._warm)
                if self._warm.waiting and not self._script:  # it died of its start, as the script would have
                    say(b"started %d" % pid)
                    say(b"exited %d" % status)
                self._cool(self._warm)
            elif pid == self._script:
                self._script = 0
                say(b"exited %d" % status)

    def _cool(self, warm: Warm) -> None:
        """The warm interpreter is gone, or is one no more."""
        self._poll.unregister(warm.answers)
        warm.close()
        self._warm = None


class Order:
    """What to run: fields that end in NUL.

    Which of ``stdin`` and ``warm`` it has, cwd, how many arguments, these, ``NAME=value`` ….
    """

    def __init__(self, data: bytes) -> None:
        marks, self.cwd, argc, *rest = data.split(b"\0")[:-1]
        self.data = data
        self.stdin = CONTROL + b"in" if b"stdin" in marks else b"/dev/null"
        self.argv = rest[: int(argc)]
        self.env: dict[bytes, bytes] = dict(pair.split(b"=", 1) for pair in rest[int(argc) :])
        self._warm = b"warm" in marks

    def may_be_warm(self) -> bool:
        """True for a Python script or module whose command line says nothing else to the interpreter."""
        if not self._warm or not os.path.basename(self.argv[0]).startswith(b"python") or not self.argv[1:]:  # noqa: PTH119
            return False
        if any(name.startswith(b"PYTHON") and name not in HARMLESS for name in self.env):
            return False
        return self.argv[1][:1] != b"-" or (self.argv[1] == b"-m" and len(self.argv) > 2)

    def starts_like(self, other: Order) -> bool:
        """True if an interpreter that was started for one of them is no other than if it were for the other."""
        return self._start() == other._start()

    def _start(self) -> object:
        program = self.argv[: 3 if self.argv[1] == b"-m" else 2]
        env = {name: value for name, value in self.env.items() if not name.startswith(b"RGRID_")}
        return program, self.cwd, self.stdin, env


class Warm:
    """An interpreter that waits at the end of its start, and forks for each order (``zygote.py``).

    ``waiting``: for the run that was sent last, which has not ended.
    """

    def __init__(self, first: Order) -> None:
        self.first = first
        self.waiting = False
        self._rest = b""
        orders, self._orders = os.pipe()
        self.answers, answers = os.pipe()
        os.set_blocking(self.answers, False)
        env = dict(first.env)
        env[b"PYTHONPATH"] = WARM
        env[b"RGRID_WARM"] = b"%d,%d" % (orders, answers)
        try:
            self.pid = spawn(first, env, pass_on=(orders, answers))
        except BaseException:
            self.close()
            raise
        finally:
            os.close(orders)
            os.close(answers)

    def send(self, order: Order) -> None:
        """Order a run."""
        self.waiting = True
        message = len(order.data).to_bytes(8, "little") + order.data
        try:
            while message:
                message = message[os.write(self._orders, message) :]
        except BrokenPipeError:
            return  # it died, which ``_reap`` tells

    def hear(self) -> list[bytes]:
        """The lines that it has said."""
        try:
            data = self._rest + os.read(self.answers, 4096)
        except BlockingIOError:
            return []
        *lines, self._rest = data.split(b"\n")
        return lines

    def close(self) -> None:
        """Hang up, at which it ends."""
        os.close(self._orders)
        os.close(self.answers)


def spawn(order: Order, env: dict[bytes, bytes], pass_on: tuple[int, ...] = ()) -> int:
    """Start a script; its pid, once exec has worked. Raises Failure. ``pass_on``: descriptors that it gets."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(order, env, pass_on, write)
    os.close(write)
    with open(read, "rb") as file:  # noqa: PTH123
        failure = file.read()  # closed by exec
    if failure:
        os.waitpid(pid, 0)
        raise Failure(b"failed " + failure)
    return pid


def become(order: Order, env: dict[bytes, bytes], pass_on: tuple[int, ...], failures: int) -> None:
    """Turn this process into the script; what fails is written to ``failures``."""
    step = b"control"
    try:
        _prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        os.setsid()
        if not pass_on:
            _die_before_the_keeper()
        for fd in pass_on:
            os.set_inheritable(fd, True)
        _open(order.stdin, os.O_RDONLY, 0)
        _open(CONTROL + b"out", os.O_WRONLY, 1)
        _open(CONTROL + b"err", os.O_WRONLY, 2)
        step = b"cwd"
        os.chdir(order.cwd)
        step = b"exec"
        os.umask(0o022)
        program = _program(order.argv[0], env)
        for signum in range(1, _signal.NSIG):
            if _signal.getsignal(signum) not in (_signal.SIG_DFL, None):
                _signal.signal(signum, _signal.SIG_DFL)
        os.execve(program, order.argv, env)  # noqa: S606
    except OSError as error:
        os.write(failures, b"%s %d" % (step, error.errno or 0))
    finally:
        os._exit(127)


def _die_before_the_keeper() -> None:
    """Out of memory, the kernel takes scripts first: before the keeper, and before what else the host has."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(fd, b"500")
    os.close(fd)


def _open(path: bytes, flags: int, number: int) -> None:
    fd = os.open(path, flags)
    os.dup2(fd, number)
    os.close(fd)


def _program(name: bytes, env: dict[bytes, bytes]) -> bytes:
    if b"/" in name:
        return name
    for directory in env.get(b"PATH", os.defpath.encode()).split(b":"):
        path = (directory or b".") + b"/" + name
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def say(words: bytes) -> None:
    """Tell the host. A line of its own, whatever a script has put into the same FIFO."""
    try:
        status = os.open(CONTROL + b"status", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return  # nobody listens: whoever did is dead, and ``go`` or a kill will tell
    try:
        os.set_blocking(status, True)
        os.write(status, b"\n%s %s\n" % (PROTOCOL, words))
    except BrokenPipeError:
        return
    finally:
        os.close(status)


if __name__ == "__main__":
    Keeper().serve()
