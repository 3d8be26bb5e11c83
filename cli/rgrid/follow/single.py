"""A single run, watched as if it ran here: its bytes, its exit code, its files."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from rgrid import output, runs
from rgrid.follow.ending import exit_code, trouble
from rgrid.follow.feed import execution_feed
from rgrid.follow.interrupt import SAYING, detachable
from rgrid.follow.stdin import feed_in_background
from rgrid.follow.streams import Streams
from rgrid.times import duration_text, size_text
from rgrid_shared.errors import Internal, NotFound, RgridError
from rgrid_shared.states import Status

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid.follow.attach import Options
    from rgrid.transfer.download import Summary
    from rgrid_shared.views import BatchView, ExecutionView, OutputsView

QUICK_S: Final = 2.0


def watch(
    client: Client,
    batch: BatchView,
    *,
    local_root: str | None,
    options: Options,
    stdin: int | None = None,
    execution_id: str = "",
) -> int:
    """As ``attach_single``; ``execution_id``: which of the batch's executions, the first by default."""
    watcher = _Watcher(client, batch, execution_id or batch["first_execution_id"], local_root, options)
    if stdin is not None:
        feed_in_background(client, watcher.execution_id, stdin, watcher.streams.note)
    return detachable(client, batch["id"], watcher.run, watcher.streams.note)


class _Watcher:
    def __init__(
        self, client: Client, batch: BatchView, execution_id: str, local_root: str | None, options: Options
    ) -> None:
        self.client = client
        self.batch = batch
        self.execution_id = execution_id
        self.local_root = local_root
        self.options = options
        self.streams = Streams()
        self.view: ExecutionView | None = None
        self.outputs: OutputsView | None = None
        self.attempt = 0
        self._started = time.monotonic()
        self._talkative = output.lively() and not options.quiet and not options.json

    def run(self) -> int:
        """Follow to the end, then bring the outputs home."""
        reminder = self._remind()
        try:
            for message in execution_feed(
                self.client, self.execution_id, outputs=self.options.place, say=self.streams.note
            ):
                if message["type"] == "log":
                    self._log(message)
                elif message["type"] == "executions":
                    self._state(message["executions"], message["outputs"])
        finally:
            if reminder:
                reminder.cancel()
        view = self.view or self.client.execution(self.execution_id)
        return self._finish(view)

    def _remind(self) -> threading.Timer | None:
        """Say how to get away from a run that is not a quick one."""
        if not self._talkative:
            return None
        timer = threading.Timer(QUICK_S, lambda: self.streams.note(self._reminder()))
        timer.daemon = True
        timer.start()
        return timer

    def _reminder(self) -> str:
        view = self.view
        if view and view["status"] in (Status.QUEUED, Status.PENDING) and view["reason"]:
            return f"{view['reason']} {SAYING}."
        return f"{self.batch['id']} · {SAYING}"

    def _log(self, message: Any) -> None:
        if self.options.json:
            output.write_line(message)
            return
        if self.attempt and message["attempt"] > self.attempt:
            self.streams.note(
                f"attempt {self.attempt} ended early; attempt {message['attempt']} starts from the beginning"
            )
        self.attempt = max(self.attempt, message["attempt"])
        self.streams.show(message)

    def _state(self, views: list[ExecutionView], outputs: list[OutputsView]) -> None:
        for view in views:
            if view["id"] == self.execution_id:
                self.view = view
                if self.options.json:
                    output.write_line({"type": "execution", "execution": view})
        for manifest in outputs:
            if manifest["execution_id"] == self.execution_id:
                self.outputs = manifest

    def _finish(self, view: ExecutionView) -> int:
        code = exit_code(view)
        if not self.options.json and (words := trouble(view)):
            self.streams.note(words)
        if self.streams.fault:
            self.streams.note(f"{self.streams.fault}; the log is on the grid: rgrid logs {self.batch['id']}")
            code = code or Internal.exit_code
        summary = None
        if self.options.place:
            try:
                summary = self._bring_home()
            except RgridError as error:
                error.hint = f"rgrid download {self.batch['id']} brings the outputs."
                if code == 0:
                    raise
                self.streams.note(f"{error.message} {error.hint}")
        if self.options.json:
            output.write_line(
                {
                    "type": "result",
                    "batch_id": self.batch["id"],
                    "execution_id": self.execution_id,
                    "status": view["status"],
                    "exit_code": code,
                    "files": summary.paths if summary else [],
                }
            )
        elif self._talkative and time.monotonic() - self._started > QUICK_S:
            self.streams.note(self._closing(code, summary))
        return code

    def _closing(self, code: int, summary: Summary | None) -> str:
        took = duration_text(time.monotonic() - self._started)
        words = f"done in {took}" if code == 0 else f"exit code {code} after {took}"
        if summary and summary.paths:
            count = len(summary.paths)
            words += f" · {count} file{'s' * (count != 1)}, {size_text(summary.bytes)}"
        return f"{words} · {self.batch['id']}"

    def _bring_home(self) -> Summary | None:
        if self.outputs is None:
            try:
                self.outputs = self.client.outputs(self.execution_id)
            except NotFound:
                return None
        if not self.outputs["entries"] and not self.outputs["left_out"]:
            return None
        from rgrid.progress import Bar
        from rgrid.transfer.download import Downloader, total_bytes
        from rgrid.transfer.where import layout_for

        record = runs.recall(self.batch["id"])
        layout = layout_for(self.client, self.batch, record, dest=self.options.dest, local_root=self.local_root)
        with Bar("outputs", total_bytes([self.outputs])) as bar:
            downloader = Downloader(
                self.client,
                layout,
                record,
                deletions=self.options.deletions and layout.cwd is None,
                count=bar.add,
            )
            summary = downloader.fetch(self.outputs)
        if record and summary.written:
            runs.remember(self.batch["id"], replace(record, written={**record.written, **summary.written}))
        for line in summary.notes():
            self.streams.note(line)
        sys.stdout.flush()
        return summary
