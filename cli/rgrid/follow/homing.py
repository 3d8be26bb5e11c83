"""Outputs of a batch brought home while it runs, a few items at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from rgrid.transfer.download import Summary
from rgrid_shared.errors import RgridError

if TYPE_CHECKING:
    from rgrid.transfer.download import Downloader
    from rgrid_shared.views import OutputsView

WORKERS: Final = 6
WAITING: Final = 256


class Homing:
    """Takes manifests and brings their files here in the background.

    At most 256 manifests wait: ``take`` blocks then, which slows the follower and not the batch. After a fault of the
    local disk no more is fetched; after another fault the item is counted as missing and the rest goes on.
    """

    def __init__(self, downloader: Downloader, on_item: Callable[[OutputsView, Summary], None]) -> None:
        self._downloader = downloader
        self._on_item = on_item
        self._pool = ThreadPoolExecutor(WORKERS, "rgrid-outputs")
        self._room = threading.BoundedSemaphore(WAITING)
        self._lock = threading.Lock()
        self._taken: set[str] = set()
        self.summary = Summary()
        self.missing = 0
        self.fault: RgridError | None = None

    def take(self, view: OutputsView) -> None:
        """Bring an execution's outputs here; a manifest that was taken before is ignored."""
        if view["execution_id"] in self._taken or self._fatal():
            return
        self._taken.add(view["execution_id"])
        if not view["entries"] and not view["left_out"]:
            return
        self._downloader.reserve(view)
        self._room.acquire()
        self._pool.submit(self._bring, view)

    def _fatal(self) -> bool:
        return self.fault is not None and self.fault.code == "local_io"

    def _bring(self, view: OutputsView) -> None:
        try:
            if self._fatal():
                with self._lock:
                    self.missing += 1
                return
            summary = self._downloader.fetch(view)
        except RgridError as error:
            with self._lock:
                self.missing += 1
                self.fault = self.fault or error
        else:
            with self._lock:
                self.summary.add(summary)
            self._on_item(view, summary)
        finally:
            self._room.release()

    def finish(self) -> None:
        """Wait for everything that was taken."""
        self._pool.shutdown(wait=True)

    def drop(self) -> None:
        """Take nothing further from the queue; what is on its way comes to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
