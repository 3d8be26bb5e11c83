"""The shim's parent: it sleeps, and if the shim is killed it kills what the shim was holding.

Both adopt orphans. While the shim lives, those of its scripts come to it; when it dies, everything that it held,
daemons included, comes here. No script runs on without somebody who minds its timeout and lease.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # ``signal`` without the enum module
import os
import sys
import time

from rgrid_runner.shim import tree
from rgrid_runner.shim.cgroup import Reach
from rgrid_runner.shim.linux import become_subreaper


class Note:
    """A few words from the shim that the guard reads when the shim is dead: the cgroup that it was responsible for.

    A pipe with one message in it, which the shim itself takes out again to write another.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)

    def write(self, directory: str) -> None:
        """From now on this is what is to be killed; empty for nothing."""
        self.read()
        os.write(self._writing, os.fsencode(directory))

    def read(self) -> str:
        """What was written last."""
        try:
            return os.fsdecode(os.read(self._reading, 4096))
        except BlockingIOError:
            return ""


def go_on_guarded() -> Note:
    """Fork; returns in the child, which is the shim. The parent only leaves when all that the shim held is dead."""
    os.setsid()
    become_subreaper()
    for signum in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGTERM):
        _signal.signal(signum, _signal.SIG_IGN)  # a host that shuts down tells everybody: the shim acts, we wait
    note = Note()
    shim = os.fork()
    if shim == 0:
        return note
    os.closerange(0, 5)
    _wait_for(shim)
    _kill_container(note.read())
    _kill_the_rest(shim)
    sys.exit()


def _wait_for(shim: int) -> None:
    while True:
        pid, _ = os.waitpid(-1, 0)
        if pid == shim:
            return


def _kill_container(directory: str) -> None:
    """PID 1 as well: the engine removes what is left."""
    pause = 0.01
    while directory and Reach(directory).pids():
        Reach(directory).kill()
        time.sleep(pause)
        pause = min(pause * 2, 1.0)


def _kill_the_rest(shim: int) -> None:
    pause = 0.01
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            tree.kill(os.getpid(), shim)
            time.sleep(pause)
            pause = min(pause * 2, 1.0)  # what hangs in the kernel may hang for long
