"""The agent: registers, offers what is free, runs what it claims, keeps leases, drains.

Offers wait at the API as one long poll that is never cancelled, so that no claim is lost between two requests;
renewals are another, which is sent anew when the attempts that it should list have changed. A finish claims for the
slots it frees.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from rgrid_runner import capacity
from rgrid_runner.blob_cache import BlobCache
from rgrid_runner.control import Control, backoff_s
from rgrid_runner.equipment import Equipment
from rgrid_runner.execute import Execution
from rgrid_runner.fetch import Fetcher
from rgrid_runner.files import read_json, remove_tree, write_json
from rgrid_runner.finisher import Finisher
from rgrid_runner.host import boottime, free_disk, resources
from rgrid_runner.layer_fleet import Fleet
from rgrid_runner.layers import Layers
from rgrid_runner.lease import Terms
from rgrid_runner.log_shipper import LogShipper
from rgrid_runner.objects import ObjectStore
from rgrid_runner.outputs import Uploader
from rgrid_runner.record import Record, Records
from rgrid_runner.renewals import Renewals
from rgrid_runner.room import Room
from rgrid_runner.settings import Settings
from rgrid_runner.uv import Uv
from rgrid_shared import __version__
from rgrid_shared.errors import RgridError
from rgrid_shared.protocol import (
    Capacity,
    Claim,
    ClaimedSpec,
    FinishReply,
    FinishReport,
    Kill,
    PollReply,
    PollRequest,
    RegisterReply,
)

log: Final = logging.getLogger("rgrid.runner")
_THREADS: Final = 16


class Agent:
    """One runner. ``run`` lives until ``drain`` (twice: until now)."""

    def __init__(self, settings: Settings, equipment: Equipment) -> None:
        self._settings = settings
        self._runtimes = equipment.runtimes
        self._gpus = equipment.gpus
        self._host = resources(settings.state, equipment.gpus.found)
        self._live: dict[str, Execution] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._offers: list[Capacity] = []
        self._changed = asyncio.Event()
        self._draining = asyncio.Event()
        self._leaving = asyncio.Event()
        self._terms = Terms(40.0, 10.0, 25.0)
        pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="work")
        self._store = ObjectStore()
        cache = BlobCache(settings.state / "cache", settings.cache_bytes)
        control = Control(settings.api_url, settings.token, self._registered)
        self._renewals = Renewals(control, self._live, lambda: self._terms, self._draining.is_set, self._obey)
        self._room = Room(
            settings=settings,
            control=control,
            backend=equipment.backend,
            cache=cache,
            fetcher=Fetcher(self._store, cache, pool),
            uploader=Uploader(self._store, pool),
            layers=Layers(
                settings.state / "layers",
                equipment.bench,
                Uv(equipment.bench, equipment.env),
                fleet=Fleet(control, self._store, pool, share=settings.share_layers),
                budget=settings.layer_bytes,
            ),
            gpus=equipment.gpus,
            meter=equipment.meter,
            runtimes=equipment.runtimes,
            shipper=LogShipper(control, self._stale),
            finisher=Finisher(control, self._offer_with_finish, self._finished),
            records=Records(settings.state / "attempts"),
            pool=pool,
            host_env=equipment.env,
        )

    def drain(self) -> None:
        """Claim nothing more and end when what runs has ended; asked again: leave it to a successor and end now."""
        if self._draining.is_set():
            self._leaving.set()
        self._draining.set()
        self._changed.set()

    async def run(self) -> None:
        """Run until drained. NotAuthorised and the like if the API does not want this runner."""
        began = time.perf_counter()
        known = await self._room.backend.open()
        await self._runtimes.open()
        await self._room.in_thread(self._room.cache.load)
        await self._room.layers.open()
        await self._register()
        await self._adopt(known)
        log.info(
            "Runner %s (%s) is ready: %d slots, %s; %.2f s",
            self._settings.name,
            self._room.control.runner_id,
            self._settings.slots,
            ", ".join(sorted(self._runtimes.offered)) or "no runtime",
            time.perf_counter() - began,
        )
        for image in self._runtimes.image_ids:
            await self._room.backend.prewarm(image)
        loops = [
            asyncio.create_task(self._room.shipper.run(), name="ship"),
            asyncio.create_task(self._room.finisher.run(), name="finish"),
            asyncio.create_task(self._renewals.run(), name="renew"),
            asyncio.create_task(self._room.meter.run(), name="meter"),
        ]
        loops.append(asyncio.create_task(self._until_drained(), name="drain"))
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._close(loops)

    async def _close(self, loops: list[asyncio.Task[None]]) -> None:
        for execution in self._live.values():
            execution.leave()
        left = list(self._tasks.values())
        for task in (*loops, *left):
            task.cancel()
        await asyncio.gather(*loops, *left, return_exceptions=True)
        await self._room.layers.close()
        await self._room.backend.close(abandon=bool(left))
        await self._room.control.close()
        self._store.close()
        self._room.pool.shutdown(wait=False, cancel_futures=True)

    # -- registration --------------------------------------------------------------------------------------------

    async def _register(self) -> None:
        kept = read_json(self._settings.state / "runner.json")
        await self._room.control.register(
            {
                "runner_id": kept["runner_id"] if isinstance(kept, dict) else None,
                "name": self._settings.name,
                "backend": self._settings.backend,
                "version": __version__,
                "slots": self._settings.slots,
                "labels": self._settings.labels,
                "runtimes": dict(sorted(self._runtimes.offered.items())),
                "images": dict(sorted(self._runtimes.images.items())),
                "allowed_images": list(self._runtimes.allowed),
                "resources": self._host,
            }
        )

    def _registered(self, reply: RegisterReply) -> None:
        self._terms = Terms.of(reply)
        write_json(self._settings.state / "runner.json", {"runner_id": reply["runner_id"]})

    async def _adopt(self, known: list[str]) -> None:
        """Go on with what an earlier agent left; remove what belongs to nothing."""
        self._room.work.mkdir(exist_ok=True)
        for record in self._room.records.load():
            started = record.key in known
            log.info("Taking over %s%s", record.key, "" if started else ", which had not started")
            if record.layer:
                self._room.layers.hold(record.layer, record.key)
            if record.gpus:
                self._room.meter.begin(record.key, self._gpus.retake(record.key, record.gpus))
            now = boottime()
            execution = Execution(self._room, record, None, until=self._terms.until(now), claimed=now, started=started)
            self._spawn(execution)
        for key in known:
            if key not in self._live:
                await self._room.backend.clean(key)
        for path in self._room.work.iterdir():
            if path.name not in self._live:
                await self._room.backend.clear(self._room.place(path.name).disk)
                await self._room.in_thread(remove_tree, path)

    # -- claiming ------------------------------------------------------------------------------------------------

    def _free(self, without: frozenset[str] = frozenset()) -> Capacity:
        """What is neither used nor offered already. ``without``: attempts that are about to end."""
        running = [each.record.resources for key, each in self._live.items() if key not in without]
        disk = free_disk(self._settings.state)
        free = capacity.free(self._settings.slots, self._host, disk, running, self._gpus.free())
        for offer in self._offers:
            free = capacity.minus(free, offer)
        return free

    async def _claim(self) -> None:
        """Offer what is free, whenever something is."""
        while True:
            free = self._free()
            if not free["slots"]:
                self._changed.clear()
                await self._changed.wait()
                continue
            self._offers.append(free)
            try:
                reply, sent = await self._offer(free)
            finally:
                self._offers.remove(free)
            self._take(reply["claims"], reply["specs"], sent)
            await self._obey(reply["kill"])

    async def _offer(self, free: Capacity) -> tuple[PollReply, float]:
        """One offer, under one name until it is answered: a lost reply is given again, not claimed again."""
        request_id = secrets.token_hex(12)
        tries = 0
        while True:
            sent = boottime()
            body: PollRequest = {
                "attempts": [],
                "claim": {"request_id": request_id, "free": free},
                "wait_s": self._terms.claim_wait_s(busy=bool(self._live)),
                "draining": False,
            }
            try:
                return await self._room.control.poll(body), sent
            except RgridError as error:
                await asyncio.sleep(max(backoff_s(tries), error.retry_after_s or 0.0))
                tries += 1

    def _offer_with_finish(self, reports: list[FinishReport]) -> Capacity | None:
        if self._draining.is_set():
            return None
        free = self._free(frozenset(f"{report['execution_id']}.{report['attempt']}" for report in reports))
        if not free["slots"]:
            return None
        self._offers.append(free)
        return free

    def _finished(self, reply: FinishReply, offered: Capacity | None, sent: float) -> None:
        if offered is not None:
            self._offers.remove(offered)
        for answer in reply["answers"]:
            if answer["accepted"] or answer["stale"]:
                self._live.pop(f"{answer['execution_id']}.{answer['attempt']}", None)
        self._take(reply["claims"], reply["specs"], sent)
        self._changed.set()

    def _take(self, claims: list[Claim], specs: dict[str, ClaimedSpec], sent: float) -> None:
        for claim in claims:
            spec = specs[claim["batch_id"]]
            stdin = spec["spec"]["stdin"]
            record = Record.of(claim, spec["spec"]["resources"], streams_stdin=stdin is not None and "stream" in stdin)
            if record.key in self._live:
                continue
            self._gpus.take(record.key, record.resources)
            self._spawn(Execution(self._room, record, (claim, spec), until=self._terms.until(sent), claimed=boottime()))

    def _spawn(self, execution: Execution) -> None:
        key = execution.record.key
        self._live[key] = execution
        task = self._tasks[key] = asyncio.create_task(execution.run(), name=key)
        task.add_done_callback(lambda done: self._ended(key, execution, done))
        self._renewals.changed()

    def _ended(self, key: str, execution: Execution, task: asyncio.Task[None]) -> None:
        if self._live.get(key) is execution:
            del self._live[key]
        self._tasks.pop(key, None)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("%s: a fault of the runner's own; its lease is left to end", key, exc_info=error)

    # -- what the API wants stopped --------------------------------------------------------------------------------

    async def _obey(self, kills: list[Kill]) -> None:
        for kill in kills:
            execution = self._live.get(f"{kill['execution_id']}.{kill['attempt']}")
            if execution is None:
                continue
            if kill["reason"] == "stale":
                self._stale(kill["execution_id"], kill["attempt"])
            else:
                await execution.cancel()

    def _stale(self, execution_id: str, attempt: int) -> None:
        task = self._tasks.get(f"{execution_id}.{attempt}")
        if task is not None:
            task.cancel()

    # -- the end -------------------------------------------------------------------------------------------------

    async def _until_drained(self) -> None:
        claiming = asyncio.create_task(self._claim(), name="claim")
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait([claiming, draining], return_when=asyncio.FIRST_COMPLETED)
            if claiming.done():
                claiming.result()
        finally:
            claiming.cancel()
            draining.cancel()
        log.info("Draining: %d executions go on", len(self._live))
        with suppress(RgridError):  # the renewals say it as well
            await self._room.control.poll({"attempts": [], "claim": None, "wait_s": 0, "draining": True})
        try:
            async with asyncio.timeout(self._settings.drain_timeout_s):
                while self._tasks and not self._leaving.is_set():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.info("%d executions are left to a successor", len(self._live))
