"""Keeps the leases of everything that lives, and hears what is to be stopped.

One long poll that lists all attempts and offers nothing, so that it may be given up and sent anew at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from rgrid_runner.control import Control, backoff_s
from rgrid_runner.execute import Execution
from rgrid_runner.host import boottime
from rgrid_runner.lease import Terms
from rgrid_shared.errors import RgridError
from rgrid_shared.protocol import Kill, PollReply, PollRequest


class Renewals:
    """Renews ``live``, a view of the agent's executions by key. ``obey`` is given the API's commands."""

    def __init__(
        self,
        control: Control,
        live: Mapping[str, Execution],
        terms: Callable[[], Terms],
        draining: Callable[[], bool],
        obey: Callable[[list[Kill]], Awaitable[None]],
    ) -> None:
        self._control = control
        self._live = live
        self._terms = terms
        self._draining = draining
        self._obey = obey
        self._more = asyncio.Event()

    def changed(self) -> None:
        """There is an execution that no poll has listed yet."""
        self._more.set()

    async def run(self) -> None:
        """Renew until cancelled."""
        tries = 0
        while True:
            if not self._live:
                self._more.clear()
                await self._more.wait()
                await self._worth_listing(set())
                continue
            try:
                await self.run_once()
                tries = 0
            except RgridError:
                await asyncio.sleep(min(backoff_s(tries), self._terms().poll_s / 4))
                tries += 1

    async def run_once(self) -> None:
        """One poll and what follows from its answer. RgridError if there is none."""
        listed = dict(self._live)
        sent = boottime()
        reply = await self._poll(listed, sent)
        if reply is None:
            return
        for ref in reply["granted"]:
            execution = self._live.get(f"{ref['execution_id']}.{ref['attempt']}")
            if execution is not None:
                await execution.grant(self._terms().until(sent))
        await self._obey(reply["kill"])

    async def _poll(self, listed: Mapping[str, Execution], sent: float) -> PollReply | None:
        """None: given up, because it listed too few."""
        body: PollRequest = {
            "attempts": [
                {"execution_id": each.record.execution_id, "attempt": each.record.attempt} for each in listed.values()
            ],
            "claim": None,
            "wait_s": self._terms().renewal_wait_s(sent, (each.until for each in listed.values())),
            "draining": self._draining(),
        }
        polling = asyncio.ensure_future(self._control.poll(body))
        listing = asyncio.ensure_future(self._worth_listing(set(listed)))
        try:
            await asyncio.wait([polling, listing], return_when=asyncio.FIRST_COMPLETED)
            return polling.result() if polling.done() else None
        finally:
            polling.cancel()
            listing.cancel()

    async def _worth_listing(self, listed: set[str]) -> None:
        """Return when an execution that is not in ``listed`` has lived long enough to be renewed."""
        while True:
            self._more.clear()
            wait_s = self._terms().relist_in_s(
                boottime(), [each.claimed for key, each in self._live.items() if key not in listed]
            )
            if wait_s == 0.0:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._more.wait()
            except TimeoutError:
                continue
