"""Keeps the embedded grid running: ``python -m rgrid.local.supervisor HOME auto|kept|foreground``.

It holds the grid's lock for as long as it lives, starts the four parts, restarts one that ended, keeps their logs
small, and stops them in order on SIGTERM. Between those it sleeps in one ``select``; signals wake it. Its first line
on stdout says as JSON how the start went: ``up``, ``locked`` (another supervisor has this directory) or ``broken``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rgrid.local import database, logfiles, parts, probe, processes, recovery, unroot
from rgrid.local.keeper import Keeper
from rgrid.local.layout import Layout, LocalError, explain, prepare
from rgrid.local.programs import find_programs
from rgrid.local.record import Facts, GridRecord, ensure_secrets, read_facts, write_facts, write_record
from rgrid_shared import __version__
from rgrid_shared.errors import RgridError

START_LIMIT_S = 60.0
RUNNER_LIMIT_S = 5.0
IDLE_LIMIT_S = 1800.0
TICK_S = 60.0
STOPPING_NOTICE_S = 0.5


def is_idle(activity: dict[str, object], limit_s: float) -> bool:
    """True if nothing is open and no user has asked anything for ``limit_s`` seconds."""
    idle_s = activity.get("idle_s")
    return activity.get("open_executions") == 0 and isinstance(idle_s, int | float) and idle_s > limit_s


class Supervisor:
    """The embedded grid of one directory."""

    def __init__(self, layout: Layout, *, auto: bool, idle_limit_s: float = IDLE_LIMIT_S) -> None:
        self.layout = layout
        self.auto = auto
        self.idle_limit_s = idle_limit_s
        self.url = ""
        self.store_url = ""
        self.api_key = ""
        self.keepers: dict[str, Keeper] = {}
        self.record: GridRecord | None = None
        self._stop_asked = False
        self._wake, self._waker = os.pipe()

    def start(self) -> None:
        """Start everything and return once the API says that it is ready.

        Raises:
            LocalError: it cannot, or was told to stop meanwhile.
        """
        self._listen()
        layout = self.layout
        for one in recovery.stop_leftovers(layout):
            self.note(f"stopped {one.part} (pid {one.pid}), left by a supervisor that is gone")
        facts = read_facts(layout.facts)
        programs = find_programs(facts.store_kind)
        database.check_major(layout, programs)
        secrets = ensure_secrets(layout.secrets)
        self.api_key = secrets.api_key
        api_port, store_port = parts.pick_port(facts.api_port), parts.pick_port(facts.store_port)
        write_facts(layout.facts, Facts(programs.store_kind, api_port, store_port))
        self.store_url, self.url = f"http://127.0.0.1:{store_port}", f"http://127.0.0.1:{api_port}"
        layout.record.unlink(missing_ok=True)

        self._launch(parts.store_part(layout, programs, secrets, store_port))
        self._launch(parts.api_part(layout, secrets, api_port, self.store_url))
        database.make(layout, programs)
        self._launch(parts.database_part(layout, programs, unroot.dropper()))
        self._launch(parts.runner_part(layout, secrets, self.url))
        self._await_ready()
        self._await_runner()
        self._publish()
        self.note(f"up at {self.url}")

    def run(self) -> None:
        """Keep the parts running until a signal or, if started by itself, idleness ends it."""
        next_tick = time.monotonic() + self._tick_s()
        while not self._stop_asked:
            now = time.monotonic()
            dues = [keeper.due for keeper in self.keepers.values() if keeper.due is not None]
            self._sleep(max(0.0, min([next_tick, *dues]) - now))
            self._tend()
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + self._tick_s()
                for name in (*self.keepers, "supervisor"):
                    logfiles.keep_small(self.layout.log(name))
                if self.auto and self._may_stop():
                    self.note("idle: stopping")
                    return

    def stop(self) -> None:
        """Stop the parts: those that use others first."""
        self.layout.record.unlink(missing_ok=True)
        for name in (parts.RUNNER, parts.API, parts.STORE, parts.DATABASE):
            if name in self.keepers:
                self.keepers[name].stop()
        self.note("stopped")

    def note(self, text: str) -> None:
        """One line in the supervisor's own log."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self.layout.log("supervisor").open("a") as file:
            file.write(f"{stamp} {text}\n")

    def _listen(self) -> None:
        os.set_blocking(self._waker, False)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_stop_asked", True))
        signal.signal(signal.SIGUSR1, lambda *_: setattr(self, "auto", False))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _sleep(self, seconds: float) -> None:
        if select.select([self._wake], [], [], seconds)[0]:
            os.read(self._wake, 4096)

    def _launch(self, part: parts.Part) -> None:
        keeper = Keeper(part, self.layout.log(part.name))
        keeper.start(time.monotonic())
        self.keepers[part.name] = keeper

    def _tend(self) -> None:
        """Notice what ended, restart what is due (the database before what needs it), keep the record true."""
        now = time.monotonic()
        for name, keeper in self.keepers.items():
            code = keeper.reap(now)
            if code is not None and not self._stop_asked:
                self.note(f"{name} ended with {code}; starting it again")
        for name in (parts.DATABASE, parts.STORE, parts.API, parts.RUNNER):
            keeper = self.keepers[name]
            if keeper.due is not None and keeper.due <= now and not self._stop_asked:
                keeper.start(now)
        if self.record is not None and (self.record.parts != self._pids() or self.record.auto != self.auto):
            self._publish()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not self._is_ready():
            if self._stop_asked:
                raise LocalError("The embedded grid was stopped while it was starting.")
            self._sleep(0.01)
            self._tend()
            broken = next((keeper for keeper in self.keepers.values() if keeper.failures >= 7), None)
            if broken or time.monotonic() > deadline:
                name = broken.part.name if broken else parts.API
                said = logfiles.tail(self.layout.log(name))
                raise database.failure(f"The embedded grid's {name} does not start", said, self.layout)

    def _await_runner(self) -> None:
        """Give the runner a moment to register: what is submitted first should not be told that there is none."""
        deadline = time.monotonic() + RUNNER_LIMIT_S
        while not self._runner_is_online() and time.monotonic() < deadline and not self._stop_asked:
            self._sleep(0.01)
            self._tend()

    def _runner_is_online(self) -> bool:
        try:
            _, found = probe.get(self.url, "/v1/runners", key=self.api_key)
        except OSError:
            return False
        runners = found.get("runners")
        return isinstance(runners, list) and any(runner.get("state") == "online" for runner in runners)

    def _is_ready(self) -> bool:
        try:
            return probe.get(self.url, "/readyz")[0] == 200
        except OSError:
            return False

    def _pids(self) -> dict[str, int]:
        return {name: keeper.process.pid for name, keeper in self.keepers.items() if keeper.process}

    def _publish(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.record = GridRecord(
            pid=os.getpid(),
            mark=processes.mark_of(os.getpid()),
            url=self.url,
            store_url=self.store_url,
            started_at=self.record.started_at if self.record else now,
            version=__version__,
            auto=self.auto,
            parts=self._pids(),
        )
        write_record(self.layout.record, self.record)

    def _tick_s(self) -> float:
        return min(TICK_S, max(1.0, self.idle_limit_s / 4))

    def _idle(self, limit_s: float) -> bool:
        try:
            status, activity = probe.get(self.url, "/v1/activity", key=self.api_key)
        except OSError:
            return False
        return status == 200 and is_idle(activity, limit_s)

    def _may_stop(self) -> bool:
        """True if nobody uses the grid, also not in the moment in which it stops telling where it is."""
        if not self._idle(self.idle_limit_s):
            return False
        self.layout.record.unlink(missing_ok=True)
        time.sleep(STOPPING_NOTICE_S)
        if self._idle(self.idle_limit_s) and self.auto:
            return True
        self._publish()
        return False


def _lock(layout: Layout) -> int | None:
    handle = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()} {processes.mark_of(os.getpid())}\n".encode())
    return handle


def _tell(state: str, error: RgridError | None = None) -> None:
    """Say once how the start went, then let go of whoever waits for it."""
    said = {"state": state} | ({"message": error.message, "hint": error.hint} if error else {})
    with contextlib.suppress(BrokenPipeError):  # the command that started us was interrupted; the grid goes on
        os.write(1, json.dumps(said).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def _tell_terminal(state: str, error: RgridError | None = None) -> None:
    """The same for somebody who watches."""
    if error is not None:
        sys.stderr.write(f"rgrid: {error.message}\n{error.hint}\n")
    else:
        said = {
            "up": "the embedded grid is up; Ctrl-C stops it",
            "locked": "this grid already runs; rgrid down stops it",
        }
        sys.stderr.write(f"rgrid: {said[state]}\n")


def supervise(layout: Layout, *, auto: bool, tell: Callable[..., None] = _tell) -> int:
    """Run the grid of this directory until it is told to stop; the exit code of the supervisor."""
    try:
        prepare(layout)
        handle = _lock(layout)
    except (OSError, RgridError) as error:
        tell("broken", _as_error(error, layout))
        return 1
    if handle is None:
        tell("locked")
        return 1
    supervisor = Supervisor(layout, auto=auto, idle_limit_s=float(os.environ.get("RGRID_LOCAL_IDLE_S", IDLE_LIMIT_S)))
    try:
        try:
            supervisor.start()
            tell("up")
            supervisor.run()
        finally:
            supervisor.stop()
    except (OSError, ValueError, subprocess.SubprocessError, RgridError) as error:
        supervisor.note(f"failed: {error}")
        tell("broken", _as_error(error, layout))
        return 1
    finally:
        os.close(handle)
    return 0


def _as_error(error: Exception, layout: Layout) -> RgridError:
    if isinstance(error, RgridError):
        return error
    if isinstance(error, OSError):
        return explain(error, layout)
    return LocalError(f"The embedded grid does not start: {error}", hint="rgrid doctor")


def main(home: str, mode: str) -> int:
    """Supervise in the foreground, or in a process that belongs to nobody."""
    layout = Layout(Path(home))
    if mode == "foreground":
        return supervise(layout, auto=False, tell=_tell_terminal)
    if os.fork():
        os._exit(0)
    return supervise(layout, auto=mode == "auto")


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
