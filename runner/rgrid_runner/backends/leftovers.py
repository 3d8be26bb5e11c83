"""Finds and kills what a run left behind when its shim was killed and cannot do it any more.

Usually there is nothing to find: the shim's guard has killed it all. If the guard was killed too, what the script
had started is known by its session or by the marks in its environment; a process that changed both is out of reach.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from rgrid_runner.backends.spool import Container, Identity
from rgrid_runner.shim.cgroup import Reach
from rgrid_runner.shim.linux import BOOT_ID, IS_LINUX
from rgrid_runner.shim.tree import start_tick

_ROUNDS: Final = 50
_PAUSE_S: Final = 0.01


def kill(identity: Identity) -> None:
    """Kill everything that belongs to the run; returns when a look at all processes finds nothing more.

    A shim that lives but does not answer is killed first.

    Does nothing if the host was restarted since: other processes have these numbers now.
    """
    if identity.boot_id != BOOT_ID:
        return
    shim, tick = identity.shim
    if tick and start_tick(shim) == tick:
        _send(shim)
    if identity.container:
        _kill_container(identity.container)
        return
    if not IS_LINUX:
        _send(-identity.script[0])
        return
    for _ in range(_ROUNDS):
        found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _belongs(pid, identity)]  # noqa: PTH208
        if not found:
            return
        for pid in found:
            _send(pid)


def _kill_container(container: Container) -> None:
    """PID 1 as well; the engine removes what is left. No other container ever has a cgroup of this name."""
    reach = Reach(str(container.cgroup))
    for _ in range(_ROUNDS):
        if not reach.pids():
            return
        reach.kill()
        time.sleep(_PAUSE_S)


def _belongs(pid: int, identity: Identity) -> bool:
    base = Path("/proc") / str(pid)
    try:
        state, _, _, session = (base / "stat").read_bytes().rpartition(b") ")[2].split()[:4]
        if state in (b"Z", b"X") or pid == os.getpid():
            return False
        script, tick = identity.script
        if int(session) == script and start_tick(pid) >= tick:
            return pid != script or start_tick(pid) == tick
        if not identity.marks:
            return False
        return set(identity.marks) <= set((base / "environ").read_bytes().split(b"\0"))
    except OSError:
        return False  # gone, or another user's


def _send(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
