"""Starts and stops the embedded grid, from the side of the command that wants it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rgrid.local import logfiles, probe, processes
from rgrid.local.find import running, server_of
from rgrid.local.layout import Layout, LocalError, explain, locate, prepare
from rgrid.local.record import GridRecord
from rgrid_shared import __version__

Say = Callable[[str], None]

START_LIMIT_S = 90.0
STOP_LIMIT_S = 75.0


def bring_up(layout: Layout, *, auto: bool, say: Say) -> GridRecord:
    """Start the grid, or wait for another command that is starting it. ``auto``: it may stop when nobody uses it.

    Raises:
        LocalError: it cannot be started, and why.
    """
    prepare(layout)
    with _locked(layout.start_lock):
        deadline = time.monotonic() + START_LIMIT_S
        said = False
        while (record := running(layout)) is None:
            if not said:
                say(f"starting the embedded grid in {_short(layout.root)}")
                said = True
            answer = _spawn(layout, auto=auto)
            if answer["state"] == "broken":
                raise LocalError(answer["message"], hint=answer["hint"])
            if answer["state"] == "locked":  # one that is still starting, or stopping
                _wait_for_holder(layout, deadline)
        return record


def keep(record: GridRecord) -> None:
    """Make a grid that started by itself stay until ``rgrid down``."""
    os.kill(record.pid, signal.SIGUSR1)


def activity(layout: Layout, record: GridRecord) -> dict[str, object] | None:
    """What ``GET /v1/activity`` answers, or None if the API does not."""
    try:
        status, found = probe.get(record.url, "/v1/activity", key=server_of(layout, record).api_key)
    except OSError:
        return None
    return found if status == 200 else None


def shut_down(layout: Layout, *, force: bool) -> bool:
    """Stop the grid and whatever of it runs; True if there was something. Data stays.

    With ``force`` also the scripts that still run are killed (the next start runs them again), and a supervisor
    that does not end is.

    Raises:
        LocalError: it does not stop.
    """
    from rgrid.local import recovery

    if not layout.root.is_dir():
        return False
    pid, mark = lock_holder(layout)
    was_up = processes.is_alive(pid, mark)
    if was_up:
        os.kill(pid, signal.SIGTERM)
        if not processes.wait_gone(pid, mark, STOP_LIMIT_S / 5 if force else STOP_LIMIT_S):
            if not force:
                raise LocalError(
                    f"The embedded grid (pid {pid}) does not stop.",
                    hint=f"rgrid down --force; its log is {layout.log('supervisor')}",
                )
            processes.stop(pid, mark, first=signal.SIGKILL, patience_s=5.0)
    prepare(layout)
    with _locked(layout.lock):
        was_up = bool(recovery.stop_leftovers(layout)) or was_up
        layout.record.unlink(missing_ok=True)
        if force:
            was_up = bool(recovery.kill_scripts(layout)) or was_up
    return was_up


def delete_data(layout: Layout) -> None:
    """Delete everything of a grid that was stopped: database, files, layers, keys, logs."""
    folders = [folder for folder in (layout.sockets, layout.root) if folder.exists()]
    for folder in folders:
        if sys.version_info >= (3, 12):
            shutil.rmtree(folder, onexc=_open_and_retry)
        else:
            shutil.rmtree(folder, onerror=_open_and_retry)


def lock_holder(layout: Layout) -> tuple[int, str]:
    """Pid and mark of the supervisor that holds or last held the lock; ``(0, "")`` if there never was one."""
    try:
        pid, _, mark = layout.lock.read_text().strip().partition(" ")
        return int(pid), mark
    except (FileNotFoundError, ValueError):
        return 0, ""


def supervisor_command(layout: Layout, mode: str) -> list[str]:
    """The command line of a supervisor; ``mode`` is ``auto``, ``kept`` or ``foreground``."""
    return [sys.executable, "-P", "-m", "rgrid.local.supervisor", str(layout.home), mode]


def _spawn(layout: Layout, *, auto: bool) -> dict[str, str]:
    log = logfiles.open_for_append(layout.log("supervisor"))
    try:
        with subprocess.Popen(
            supervisor_command(layout, "auto" if auto else "kept"),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
    finally:
        os.close(log)
    try:
        said = json.loads(line)
    except ValueError:
        last = logfiles.tail(layout.log("supervisor"), 3)
        raise LocalError(
            f"The embedded grid's supervisor ended before it said anything:\n{last}", hint="rgrid doctor"
        ) from None
    return {str(name): str(value) for name, value in said.items()}


def settle_version(layout: Layout, record: GridRecord, say: Say) -> GridRecord | None:
    """A newer rgrid restarts a grid that nobody uses; otherwise the grid that runs is used as it is.

    None: it was stopped and is to be started as any other that does not run.
    """
    if not newer(__version__, than=record.version):
        return record
    now = activity(layout, record)
    if now is not None and now.get("open_executions") != 0:
        say(f"the embedded grid still runs rgrid {record.version} and is busy; {__version__} takes over when idle")
        return record
    say(f"restarting the embedded grid: {record.version} → {__version__}")
    shut_down(layout, force=False)
    return None if record.auto else bring_up(layout, auto=False, say=lambda _text: None)


def newer(version: str, than: str) -> bool:
    """True if ``version`` is a later release."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split("+")[0].split(".") if part.isdigit()]

    return numbers(version) > numbers(than)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise explain(error, locate(path.parent.parent)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _wait_for_holder(layout: Layout, deadline: float) -> None:
    """Wait until the supervisor that has the lock is up or gone."""
    while running(layout) is None and processes.is_alive(*lock_holder(layout)):
        if time.monotonic() > deadline:
            raise LocalError(
                "Another supervisor holds the embedded grid's directory and does not come up.",
                hint="rgrid down --force, then try again",
            )
        time.sleep(0.02)


def _short(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)


def _open_and_retry(function: Callable[[str], object], path: str, _error: object) -> None:
    """``rmtree`` met a directory that its owner closed: open it and go on."""
    parent = Path(path).parent
    for folder in (parent, Path(path)):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(folder.stat().st_mode | stat.S_IRWXU)
    if Path(path).is_dir() and not Path(path).is_symlink():
        shutil.rmtree(path)
    else:
        function(path)
