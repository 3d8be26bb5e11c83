"""Processes by pid, without mistaking a later process for an earlier one that had the same number."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def has_proc() -> bool:
    """True where the kernel shows processes as files (Linux)."""
    return PROC.joinpath("self").exists()


def mark_of(pid: int) -> str:
    """What tells this process from any other that ever had its pid: boot and start time. Empty: there is none.

    A process that has ended and only waits for its parent to notice counts as gone.
    """
    if pid <= 0:
        return ""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return _mark_by_ps(pid) if not has_proc() else ""
    fields = text[text.rindex(")") + 2 :].split()
    return "" if fields[0] in "ZX" else f"{boot[:8]}:{fields[19]}"


def _mark_by_ps(pid: int) -> str:
    """The same where there is no /proc (macOS)."""
    import subprocess

    found = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(None, 1)
    return "" if len(found) < 2 or found[0].startswith("Z") else found[1].strip()


def is_alive(pid: int, mark: str) -> bool:
    """True if the process that ``mark_of`` described still runs."""
    return bool(mark) and mark_of(pid) == mark


def command_of(pid: int) -> list[str]:
    """The command line of a process, empty if it is gone or hidden."""
    if not has_proc():
        import subprocess

        return subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout.split()
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.split(b"\0") if part]


def environment_of(pid: int) -> bytes:
    """The environment that a process was started with, entries ended by NUL; empty if it is gone or hidden."""
    try:
        return (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""


def all_pids() -> Iterator[int]:
    """Every process that can be seen."""
    if has_proc():
        for name in os.listdir(PROC):  # noqa: PTH208 - hundreds of names, no Path objects needed
            if name.isdigit():
                yield int(name)


def stop(pid: int, mark: str, *, first: signal.Signals, patience_s: float) -> None:
    """Ask a process that may not be a child of ours to end; after ``patience_s`` kill it. Returns once it is gone."""
    for number, patience in ((first, patience_s), (signal.SIGKILL, 10.0)):
        if not is_alive(pid, mark):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        wait_gone(pid, mark, patience)


def wait_gone(pid: int, mark: str, seconds: float) -> bool:
    """Wait until a process has ended; False if it still runs after ``seconds``."""
    deadline = time.monotonic() + seconds
    while is_alive(pid, mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
