"""Telling processes apart and ending them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from support.waiting import until

from rgrid.local.processes import command_of, is_alive, mark_of, stop, wait_gone

SLEEPER = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()",
]


def test_ended_but_not_collected() -> None:
    """A process that has ended counts as gone even while its parent has not noticed."""
    process = subprocess.Popen(SLEEPER)
    mark = mark_of(process.pid)
    assert is_alive(process.pid, mark)
    process.send_signal(signal.SIGKILL)
    assert until(lambda: not is_alive(process.pid, mark))
    process.wait()
    assert mark_of(process.pid) == ""


def test_no_process() -> None:
    """What is not there has no mark and is not alive."""
    assert mark_of(0) == ""
    assert mark_of(2**22 + 1) == ""
    assert not is_alive(2**22 + 1, "")


def test_stop_insists() -> None:
    """A process that ignores the request is killed once its patience is over."""
    process = subprocess.Popen(STUBBORN, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    mark = mark_of(process.pid)
    stop(process.pid, mark, first=signal.SIGTERM, patience_s=0.1)
    assert process.wait(5) == -signal.SIGKILL
    process.stdout.close()


def test_wait_has_an_end() -> None:
    """Waiting for a process that stays ends with False."""
    assert not wait_gone(os.getpid(), mark_of(os.getpid()), 0.02)


def test_command() -> None:
    """A process's command line is its own, word by word."""
    process = subprocess.Popen(SLEEPER)
    try:
        assert until(lambda: command_of(process.pid)[1:2] == ["-S"])
    finally:
        process.kill()
        process.wait()
