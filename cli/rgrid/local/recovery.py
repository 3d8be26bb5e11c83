"""What a killed supervisor left behind: its parts, still running, and PostgreSQL's lock file."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from rgrid.local import parts, processes
from rgrid.local.layout import Layout
from rgrid.local.record import read_record


@dataclass(frozen=True, slots=True)
class Leftover:
    """A part of this grid that runs without a supervisor."""

    part: str
    pid: int
    mark: str


SERVERS = (parts.RUNNER, parts.API, parts.STORE)

_HOW: dict[str, tuple[signal.Signals, float]] = {
    parts.RUNNER: (signal.SIGKILL, 5.0),  # the scripts go on without it and are adopted by its successor
    parts.API: (signal.SIGTERM, 5.0),
    parts.STORE: (signal.SIGTERM, 5.0),
    parts.DATABASE: (signal.SIGINT, 30.0),
}
"""The order in which leftovers are stopped, and how."""


def leftovers(layout: Layout) -> list[Leftover]:
    """The parts of this directory that run, in the order in which they are to be stopped."""
    found = {pid: part for part, pid in _candidates(layout)}
    order = list(_HOW)
    known = [Leftover(part, pid, processes.mark_of(pid)) for pid, part in found.items()]
    return sorted((one for one in known if one.mark), key=lambda one: order.index(one.part))


def stop_leftovers(layout: Layout) -> list[Leftover]:
    """End them all; the caller holds the grid's lock. Returns what was there."""
    stopped = leftovers(layout)
    for one in stopped:
        first, patience_s = _HOW[one.part]
        processes.stop(one.pid, one.mark, first=first, patience_s=patience_s)
    _forget_dead_postmaster(layout)
    return stopped


def scripts(layout: Layout) -> list[tuple[int, str]]:
    """Pids and marks of what the runner started and that may outlive it: shims and scripts."""
    ours = f"{parts.DIR_MARK}={layout.root}".encode() + b"\0"
    state = str(layout.runner).encode() + b"/"
    found = []
    for pid in processes.all_pids():
        env = processes.environment_of(pid)
        from_shim = ours in env and f"{parts.PART_MARK}={parts.RUNNER}".encode() in env
        from_script = b"RGRID_EXECUTION_ID=" in env and state in env
        if pid != os.getpid() and (from_shim or from_script):
            mark = processes.mark_of(pid)
            if mark and not parts.is_part(parts.RUNNER, processes.command_of(pid)):
                found.append((pid, mark))
    return found


def kill_scripts(layout: Layout) -> int:
    """Kill them, also those that appear meanwhile; how many there were."""
    killed: set[int] = set()
    while remaining := scripts(layout):
        for pid, mark in remaining:
            processes.stop(pid, mark, first=signal.SIGKILL, patience_s=5.0)
            killed.add(pid)
    return len(killed)


def postmaster_pid(layout: Layout) -> int:
    """The pid in PostgreSQL's lock file, 0 if there is none."""
    try:
        return int((layout.database / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


def _candidates(layout: Layout) -> Iterator[tuple[str, int]]:
    ours = f"{parts.DIR_MARK}={layout.root}".encode() + b"\0"
    mark = f"{parts.PART_MARK}=".encode()
    for pid in processes.all_pids():
        env = processes.environment_of(pid)
        if ours not in env:
            continue
        part = env.split(mark, 1)[-1].split(b"\0", 1)[0].decode(errors="replace")
        if part in SERVERS and parts.is_part(part, processes.command_of(pid)):
            yield part, pid
    if not processes.has_proc():
        record = read_record(layout.record)
        for part, pid in (record.parts if record else {}).items():
            if part in SERVERS and parts.is_part(part, processes.command_of(pid)):
                yield part, pid
    pid = postmaster_pid(layout)
    if pid and _is_our_postmaster(layout, pid):
        yield parts.DATABASE, pid


def _is_our_postmaster(layout: Layout, pid: int) -> bool:
    command = processes.command_of(pid)
    return parts.is_part(parts.DATABASE, command) and str(layout.database) in command


def _forget_dead_postmaster(layout: Layout) -> None:
    """PostgreSQL trusts its lock file if *any* process has that pid, for example after a reboot: remove it if stale."""
    pid = postmaster_pid(layout)
    if not (pid and _is_our_postmaster(layout, pid)):
        (layout.database / "postmaster.pid").unlink(missing_ok=True)
