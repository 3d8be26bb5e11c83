"""A batch, watched until its last item has ended, its outputs brought home as they come."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rgrid import output, runs
from rgrid.counts import failed, stopped, succeeded
from rgrid.follow.causes import Causes
from rgrid.follow.display import Display, Lines, Live
from rgrid.follow.feed import batch_feed
from rgrid.follow.interrupt import SAYING, detachable
from rgrid.times import size_text, span_text
from rgrid_shared.states import Status

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid.follow.attach import Options
    from rgrid.follow.homing import Homing
    from rgrid.transfer.download import Summary
    from rgrid_shared.views import BatchView, ExecutionView, OutputsView

FAILED: Final = frozenset({Status.FAILED, Status.TIMED_OUT})
NOTES: Final = 20


def watch(client: Client, batch: BatchView, *, dest: str | None, options: Options) -> int:
    """As ``attach_batch``."""
    watcher = _Watcher(client, batch, dest, options)
    return detachable(client, batch["id"], watcher.run, output.say)


class _Watcher:
    def __init__(self, client: Client, batch: BatchView, dest: str | None, options: Options) -> None:
        self.client = client
        self.batch = batch
        self.dest = dest
        self.options = options
        self.causes = Causes()
        self.folder = ""
        self._record = runs.recall(batch["id"])
        self._latest: dict[int, str] = {}
        self._lock = threading.Lock()
        self._notes = 0

    def run(self) -> int:
        """Follow to the end. Ctrl-C leaves the display and the downloads in order."""
        homing = self._homing() if self.options.place else None
        display: Display = self._display()
        self.display = display
        try:
            for message in batch_feed(self.client, self.batch, outputs=homing is not None, say=display.note):
                if message["type"] == "batch":
                    self.batch = message["batch"]
                elif message["type"] == "executions":
                    for view in message["executions"]:
                        self._state(view)
                    if homing:
                        for manifest in message["outputs"]:
                            homing.take(manifest)
                self._draw(homing)
            if homing:
                homing.finish()
        except BaseException:
            if homing:
                homing.drop()
            raise
        finally:
            display.close()
            self._remember(homing)
        return self._finish(homing)

    def _display(self) -> Display:
        if output.lively() and not self.options.quiet and not self.options.json:
            output.say(f"{self.batch['id']} · {self.batch['total']} items · {SAYING}")
            return Live()
        return Lines(quiet=self.options.quiet or self.options.json)

    def _homing(self) -> Homing:
        from rgrid.follow.homing import Homing
        from rgrid.transfer.download import Downloader
        from rgrid.transfer.where import layout_for

        layout = layout_for(self.client, self.batch, self._record, dest=self.dest)
        self.folder = layout.base
        flat = self.options.flat or bool(self._record and self._record.flat)
        return Homing(Downloader(self.client, layout, self._record, flat=flat), self._arrived)

    def _state(self, view: ExecutionView) -> None:
        if not view["latest"]:
            return
        status = Status(view["status"])
        news = self._latest.get(view["index"]) != f"{view['id']} {status}"
        self._latest[view["index"]] = f"{view['id']} {status}"
        with self._lock:
            if status in FAILED:
                self.causes.add(view)
            else:
                self.causes.remove(view["index"])
        if self.options.json and news:
            output.write_line({"type": "execution", "execution": view})

    def _arrived(self, view: OutputsView, summary: Summary) -> None:
        """Called on the threads that fetch."""
        lines = summary.notes()
        with self._lock:
            if self.options.json:
                output.write_line({"type": "outputs", "index": view["index"], "files": summary.paths})
            for line in lines[: max(0, NOTES - self._notes)]:
                self.display.note(f"item {view['index']}: {line}")
            self._notes += len(lines)

    def _draw(self, homing: Homing | None) -> None:
        files, size = (len(homing.summary.paths), homing.summary.bytes) if homing else (0, 0)
        with self._lock:
            self.display.update(self.batch, self.causes, files, size)

    def _remember(self, homing: Homing | None) -> None:
        if homing and self._record and homing.summary.written:
            written = {**self._record.written, **homing.summary.written}
            runs.remember(self.batch["id"], replace(self._record, written=written))

    def _finish(self, homing: Homing | None) -> int:
        batch = self.client.batch(self.batch["id"])
        counts = batch["counts"]
        code = 0 if succeeded(counts) == batch["total"] else 1
        fault = homing.fault if homing else None
        if self.options.json:
            files = len(homing.summary.paths) if homing else 0
            result = {"type": "result", "batch_id": batch["id"], "counts": counts, "exit_code": code, "files": files}
            output.write_line(result)
        elif not self.options.quiet or code:
            self._sum_up(batch, homing)
        if self._notes > NOTES:
            output.say(f"and {self._notes - NOTES} more notes about outputs")
        if fault is not None and homing:
            fault.hint = f"rgrid download {batch['id']} brings what is missing ({homing.missing} items)."
            if code == 0:
                raise fault
            output.say(f"{fault.message} {fault.hint}")
        return code

    def _sum_up(self, batch: BatchView, homing: Homing | None) -> None:
        counts = batch["counts"]
        words = [f"{succeeded(counts)} of {batch['total']} succeeded"]
        if failed(counts):
            words.append(f"{failed(counts)} failed")
        if stopped(counts):
            words.append(f"{stopped(counts)} cancelled")
        took = span_text(batch["started_at"] or batch["created_at"], batch["ended_at"], datetime.now(UTC))
        text = f"{', '.join(words)} in {took} · {batch['id']}"
        if homing and homing.summary.paths:
            count = len(homing.summary.paths)
            size = size_text(homing.summary.bytes)
            text += f" · {count} file{'s' * (count != 1)}, {size}, in {self.folder}"
        output.say(text)
        for line in self.causes.lines():
            output.say(f"  {line}")
        if failed(counts) or stopped(counts):
            output.say(f"→ rgrid retry {batch['id']} --failed")
