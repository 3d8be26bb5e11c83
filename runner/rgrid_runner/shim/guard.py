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
from rgrid_runner.shim.linux import become_subreaper


def go_on_guarded() -> None:
    """Fork; returns in the child, which is the shim. The parent only leaves when all below it is dead."""
    os.setsid()
    become_subreaper()
    for signum in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGTERM):
        _signal.signal(signum, _signal.SIG_IGN)  # a host that shuts down tells everybody: the shim acts, we wait
    shim = os.fork()
    if shim == 0:
        return
    os.closerange(0, 5)
    _wait_for(shim)
    _kill_the_rest(shim)
    sys.exit()


def _wait_for(shim: int) -> None:
    while True:
        pid, _ = os.waitpid(-1, 0)
        if pid == shim:
            return


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
