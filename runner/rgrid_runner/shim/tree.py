"""Every process that a run started, found through /proc below the shim that adopts its orphans.

A listing is stale when it is read, so nothing here trusts one: processes are stopped first, until a listing shows
nothing new and nothing moving, and only then killed. A signal to a process group reaches all of it at once, a member
that is just being forked too, so the groups that are met are signalled as well: a program that forks without end, or
lives on under ever new pids, is caught that way.
Without /proc only the script's own process group is reached.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # ``signal`` without the enum module: 1 MB and 10 ms
import os
import time

from rgrid_runner.shim.linux import IS_LINUX

_ROUNDS = 200
_PAGE = os.sysconf("SC_PAGE_SIZE")


def descendants(root: int) -> list[int]:
    """Pids of all processes below ``root``, parents first."""
    found: list[int] = []
    queue = [root]
    for pid in queue:
        for child in _children(pid):
            found.append(child)
            queue.append(child)
    return found


def _children(pid: int) -> list[int]:
    base = f"/proc/{pid}/task"
    pids: list[int] = []
    try:
        tasks = os.listdir(base)  # noqa: PTH208
    except OSError:
        return pids
    for task in tasks:
        try:
            with open(f"{base}/{task}/children", "rb") as file:  # noqa: PTH123
                pids.extend(map(int, file.read().split()))
        except OSError:
            continue  # the thread ended meanwhile
    return pids


def _stands(pid: int) -> bool:
    """True if the process is stopped, dead or gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b") ")[2][:1] in b"TtZX"
    except OSError:
        return True


def group_of(pid: int) -> int:
    """The process group of a process, 0 if it is gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _send(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return  # ended; or a set-uid program, which only root may signal


def _send_group(group: int, signum: int) -> None:
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        return


def stop(root: int, group: int) -> tuple[set[int], set[int]]:
    """Stop everything below ``root``; returns pids and groups, when all stand (or after a fifth of a second)."""
    groups = {group}
    if not IS_LINUX:
        _send_group(group, _signal.SIGSTOP)
        return set(), groups
    seen: set[int] = set()
    foreign = {0, os.getpgrp(), os.getpgid(root)}
    for _ in range(_ROUNDS):
        now = descendants(root)
        new = [pid for pid in now if pid not in seen]
        for pid in new:
            groups.add(group_of(pid))
            _send(pid, _signal.SIGSTOP)
        groups -= foreign
        if new:
            for each in groups:
                _send_group(each, _signal.SIGSTOP)
        seen.update(new)
        if not new and all(map(_stands, now)):
            break
        time.sleep(0.001)
    return seen, groups


def resume(root: int, group: int) -> None:
    """Let everything below ``root`` go on."""
    _send_group(group, _signal.SIGCONT)
    for pid in descendants(root):
        _send(pid, _signal.SIGCONT)


def kill(root: int, group: int) -> None:
    """Kill everything below ``root``."""
    pids, groups = stop(root, group)
    for each in groups:
        _send_group(each, _signal.SIGKILL)
    for pid in pids:
        _send(pid, _signal.SIGKILL)


def terminate(group: int) -> None:
    """Ask the script's process group to end."""
    _send_group(group, _signal.SIGTERM)


def memory(root: int, limit: int) -> int:
    """Bytes of memory that everything below ``root`` holds.

    The quick sum counts shared pages once for each process; only when it is above ``limit`` the kernel is asked for
    the shares (PSS), which takes milliseconds.
    """
    pids = descendants(root)
    resident = sum(map(_resident, pids))
    return resident if resident <= limit else sum(map(_proportional, pids))


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _resident(pid)


def start_tick(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names a process for good. 0: unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b") ")[2].split()[19])
    except OSError:
        return 0
