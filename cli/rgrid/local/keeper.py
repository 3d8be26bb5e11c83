"""One part of the grid and the process that runs it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from rgrid.local import logfiles
from rgrid.local.parts import Part

HEALTHY_S = 60.0


class Keeper:
    """One part and the process that runs it now."""

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.failures = 0
        self.due: float | None = None

    def start(self, now: float) -> None:
        """Start the process in a session of its own, its output appended to its log."""
        output = logfiles.open_for_append(self.log)
        try:
            self.process = subprocess.Popen(
                self.part.argv,
                env=dict(self.part.env),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=self.part.before_exec,
            )
        finally:
            os.close(output)
        self.started, self.due = now, None

    def reap(self, now: float) -> int | None:
        """If the process has ended, plan its restart and return how it ended; else None."""
        code = self.process.poll() if self.process else None
        if code is None:
            return None
        self.process = None
        self.failures = 0 if now - self.started > HEALTHY_S else self.failures + 1
        self.due = now + restart_delay(self.failures)
        return code

    def stop(self) -> None:
        """Ask the process to end as its part wants to be asked, then insist. Returns once it is gone."""
        self.due = None
        if self.process is None:
            return
        for number, patience_s in (*self.part.stops, (signal.SIGKILL, 10.0)):
            self.process.send_signal(number)
            try:
                self.process.wait(patience_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self.process = None


def restart_delay(failures: int) -> float:
    """Seconds before a part that ended is started again: at once, then 0.2 s doubling to 10 s."""
    return 0.0 if failures <= 1 else float(min(10.0, 0.2 * 2 ** (failures - 2)))
