"""One attempt, from claim to acknowledged end: prepare → start → stream → collect → deliver → finish.

Each step is a method over one record. What goes wrong in a step becomes an ``AttemptFailed`` with its class; ``Stale``
means that the attempt is not ours any more, and nothing is reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from rgrid_runner import outcome
from rgrid_runner.backends.base import BackendError, Exit, UnknownRun
from rgrid_runner.control import backoff_s
from rgrid_runner.files import remove_tree
from rgrid_runner.host import boottime, utc_now, wire_time
from rgrid_runner.outcome import AttemptFailed, Stale
from rgrid_runner.outputs import Delivery, collect
from rgrid_runner.prepare import Preparation, Prepared, both
from rgrid_runner.record import Record
from rgrid_runner.room import Room
from rgrid_runner.stdin_feed import feed_stdin
from rgrid_runner.workspace import Known, load_known, save_known
from rgrid_shared.errors import StaleAttempt
from rgrid_shared.protocol import BlobUrlsReply, Claim, ClaimedSpec, FinishReport, Manifest, Upload
from rgrid_shared.states import FailureClass, Phase

log: Final = logging.getLogger("rgrid.runner")
DELIVER_PATIENCE_S: Final = 3600.0
_SAY_DELIVERING_S: Final = 0.5
_NEVER_STARTED: Final = "It was cancelled before the script started."


class Execution:
    """An attempt that is this runner's. ``until``: its lease, on CLOCK_BOOTTIME; the agent moves it on."""

    def __init__(
        self,
        room: Room,
        record: Record,
        work: tuple[Claim, ClaimedSpec] | None,
        *,
        until: float,
        claimed: float,
        started: bool = False,
    ) -> None:
        """``work``: what was claimed at ``claimed`` (CLOCK_BOOTTIME), or None for one that is taken over.

        ``started``: the backend knows it.
        """
        self.record = record
        self.until = until
        self.listed = False
        self.claimed = claimed
        self._room = room
        self._work = work
        self._place = room.place(record.key)
        self._feed = room.shipper.feed(
            record.execution_id, record.attempt, record.notes, acked=0 if work is not None else None
        )
        self._granted = asyncio.Event()
        self._cancelled = False
        self._interruptible: asyncio.Future[None] | None = None
        self._started = started
        self._known: Mapping[str, Known] = {}
        self._prepared: Prepared | None = None
        self._gpu_use = outcome.NO_GPU
        self._leave = False

    # -- what the agent tells it ---------------------------------------------------------------------------------

    async def grant(self, until: float) -> None:
        """The lease goes on until this reading of CLOCK_BOOTTIME."""
        self.until = until
        self._granted.set()
        if self._started:
            with suppress(UnknownRun):
                await self._room.backend.renew(self.record.key, until)

    async def cancel(self) -> None:
        """Somebody cancelled it: stop what goes on; outputs are delivered all the same."""
        self._cancelled = True
        if self._started:
            with suppress(UnknownRun):
                await self._room.backend.kill(self.record.key, FailureClass.CANCELLED)
        elif self._interruptible is not None:
            self._interruptible.cancel()

    def leave(self) -> None:
        """The agent goes, a successor will bring it to its end: keep everything as it is."""
        self._leave = True

    # -- its life ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """All steps, to the end that the API has acknowledged. Raises nothing that can be foreseen."""
        try:
            await self._finish(await self._outcome())
        except (Stale, StaleAttempt):
            log.info("%s is not this runner's any more", self.record.key)
        finally:
            self._feed.close()
            if not self._leave:
                await asyncio.shield(self._clean())

    async def _outcome(self) -> FinishReport:
        try:
            if self._work is not None:
                await self._may_be_cancelled(self._prepare(*self._work))
                await self._start()
            else:
                await self._take_over()
        except AttemptFailed as error:
            return await self._failed(error)
        except BackendError as error:
            return await self._failed(outcome.from_backend(error))
        except OSError as error:
            return await self._failed(outcome.from_os(error, "preparing the workspace"))
        end = await self._stream()
        try:
            manifest, deliver_ms = await self._deliver(end)
        except AttemptFailed as error:
            return await self._failed(error)
        except OSError as error:
            return await self._failed(outcome.from_os(error, "collecting the outputs"))
        return outcome.ended_report(
            self.record.execution_id,
            self.record.attempt,
            end,
            manifest,
            last_seq=self._feed.last or 0,
            prepare_ms=self.record.prepare_ms,
            deliver_ms=deliver_ms,
            layer=self.record.layer,
            gpu_use=self._gpu_use,
        )

    async def _may_be_cancelled(self, step: Coroutine[Any, Any, None]) -> None:
        self._interruptible = asyncio.ensure_future(step)
        if self._cancelled:
            self._interruptible.cancel()
        try:
            await self._interruptible
        except asyncio.CancelledError:
            self._interruptible.cancel()
            if self._cancelled and not self._leave:
                raise AttemptFailed(FailureClass.CANCELLED, _NEVER_STARTED) from None
            raise
        finally:
            self._interruptible = None

    async def _prepare(self, claim: Claim, given: ClaimedSpec) -> None:
        await self._room.in_thread(self._room.records.save, self.record)
        preparation = Preparation(
            self._room, self.record, claim, given, say=self._feed.say, fresh_urls=self._fresh_urls
        )
        self._prepared = await preparation.run()
        self._known = self._prepared.known
        self.record.prepare_ms = int((boottime() - self.claimed) * 1000)
        await self._room.in_thread(self._keep)

    def _keep(self) -> None:
        """All that a successor needs, before anything runs."""
        save_known(self._place, self._known)
        self._room.records.save(self.record)

    async def _fresh_urls(self, wanted: list[str]) -> BlobUrlsReply:
        return await self._room.control.blobs(
            {"execution_id": self.record.execution_id, "attempt": self.record.attempt, "sha256": wanted}
        )

    async def _start(self) -> None:
        assert self._prepared is not None
        await self._may_be_cancelled(self._leased())
        started_at = await self._room.backend.start(replace(self._prepared.order, lease_until=self.until))
        self._started = True
        await self._room.backend.renew(self.record.key, self.until)  # it may have been granted again meanwhile
        self._room.meter.begin(self.record.key, self._prepared.gpus)
        self._feed.script_started(self._read_from, wire_time(started_at))
        if self._cancelled:
            await self._room.backend.kill(self.record.key, FailureClass.CANCELLED)
        if self._prepared.layer is not None:
            self._room.layers.started(self._prepared.layer)

    async def _leased(self) -> None:
        """Return while the lease holds: nothing is started on one that has run out."""
        while boottime() >= self.until:
            self._granted.clear()
            await self._granted.wait()

    async def _take_over(self) -> None:
        if not self._started:
            raise AttemptFailed(FailureClass.INFRASTRUCTURE, "The runner was restarted before the script had started.")
        known = await self._room.in_thread(load_known, self._place)
        if known is None:
            raise AttemptFailed(FailureClass.INFRASTRUCTURE, "The runner was restarted and lost the attempt's state.")
        self._known = known
        self._feed.script_started(self._read_from, None)

    def _read_from(self, after: int) -> Any:
        return self._room.backend.stream(self.record.key, after)

    async def _stream(self) -> Exit:
        """Until the script has ended. Its log goes its own way meanwhile."""
        feeding = asyncio.create_task(feed_stdin(self._room, self.record)) if self.record.streams_stdin else None
        try:
            end = await self._room.backend.wait(self.record.key)
        finally:
            if feeding is not None:
                feeding.cancel()
        self._feed.script_ended(end.last_seq)
        self._gpu_use = self._room.meter.end(self.record.key)
        self._room.gpus.release(self.record.key)  # its outputs may take long to deliver, and need no GPU
        return end

    async def _deliver(self, end: Exit) -> tuple[Manifest, int]:
        """Collect and store the outputs while the rest of the log is shipped; the manifest, and milliseconds since."""
        loop = asyncio.get_running_loop()
        saying = loop.call_later(_SAY_DELIVERING_S, self._feed.enter, Phase.DELIVERING)
        try:
            manifest, _ = await both(self._store(), self._feed.drained())
        finally:
            saying.cancel()
        return manifest, max(0, int((utc_now() - end.ended_at).total_seconds() * 1000))

    async def _store(self) -> Manifest:
        changes = await self._room.in_thread(
            collect,
            self._place,
            self._known,
            max_files=self._room.settings.output_files,
            max_bytes=self._room.settings.output_bytes,
        )
        delivery = Delivery.of(self._place, changes)
        pack: Upload | None = self.record.pack
        began, tries = boottime(), 0
        while delivery.missing:
            error = await self._room.uploader.store(delivery, pack, self._places)
            if error is None:
                break
            pack = None
            if boottime() - began > DELIVER_PATIENCE_S:
                raise AttemptFailed(
                    FailureClass.INFRASTRUCTURE,
                    f"The script ended, but its outputs could not be stored for an hour: {error.message}",
                )
            log.warning("%s: outputs wait for the object store: %s", self.record.key, error.message)
            await asyncio.sleep(backoff_s(tries))
            tries += 1
        return delivery.manifest()

    async def _places(self, sizes: list[int]) -> list[Upload]:
        reply = await self._room.control.outputs(
            {"execution_id": self.record.execution_id, "attempt": self.record.attempt, "sizes": sizes}
        )
        return reply["uploads"]

    async def _failed(self, error: AttemptFailed) -> FinishReport:
        """The report of a failure that is not the script's, once its log has arrived."""
        log.info("%s: %s: %s", self.record.key, error.failure, error.message)
        if self._feed.last is None:
            self._feed.script_ended(0)
        await self._feed.drained()
        return outcome.failed_report(
            self.record.execution_id,
            self.record.attempt,
            error,
            last_seq=self._feed.last or 0,
            prepare_ms=self.record.prepare_ms or int((boottime() - self.claimed) * 1000),
            layer=self.record.layer,
            now=utc_now(),
        )

    async def _finish(self, report: FinishReport) -> None:
        began, tries = boottime(), 0
        while True:
            answer = await self._room.finisher.finish(report)
            if answer["accepted"]:
                return
            if answer["stale"]:
                raise Stale
            if answer["next_seq"] <= report["last_seq"]:
                self._feed.lacks(answer["next_seq"])
                await self._feed.drained()
                continue
            log.warning("%s cannot end yet: %s", self.record.key, answer["error"])
            await asyncio.sleep(backoff_s(tries))
            tries += 1
            if boottime() - began > DELIVER_PATIENCE_S:
                report = await self._failed(AttemptFailed(FailureClass.INFRASTRUCTURE, answer["error"]))
            elif report["manifest"]["objects"]:
                report = {**report, "manifest": await self._store()}

    async def _clean(self) -> None:
        with suppress(UnknownRun):
            await self._room.backend.clean(self.record.key)
        self._room.meter.end(self.record.key)
        self._room.gpus.release(self.record.key)
        self._room.layers.release(self.record.key)
        try:
            await self._room.backend.clear(self._place.disk)
            await self._room.in_thread(remove_tree, self._place.base)
        except OSError as error:
            log.warning("%s: the workspace cannot be removed: %s", self.record.key, error)
        await self._room.in_thread(self._room.records.remove, self.record.key)
