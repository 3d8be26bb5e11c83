"""Ends attempts, and claims with the same round trip what takes their places.

One request is in flight at a time; attempts that end meanwhile go together in the next.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final

from rgrid_runner.control import Control, backoff_s
from rgrid_runner.host import boottime
from rgrid_shared.errors import RgridError
from rgrid_shared.protocol import Capacity, FinishAnswer, FinishReply, FinishReport, FinishRequest

log: Final = logging.getLogger("rgrid.runner")
MAX_REPORTS: Final = 64
MAX_ENTRIES: Final = 20_000

Offer = Callable[[list[FinishReport]], Capacity | None]
Taken = Callable[[FinishReply, Capacity | None, float], None]


class Finisher:
    """Takes reports one by one and sends them together.

    ``offer`` says what may be claimed once these attempts have ended (None: nothing); ``taken`` gets the answer, what
    was offered, and when (CLOCK_BOOTTIME) the request was sent.
    """

    def __init__(self, control: Control, offer: Offer, taken: Taken) -> None:
        self._control = control
        self._offer = offer
        self._taken = taken
        self._waiting: list[tuple[FinishReport, asyncio.Future[FinishAnswer]]] = []
        self._wake = asyncio.Event()

    async def finish(self, report: FinishReport) -> FinishAnswer:
        """Hand in ``report``; the API's answer to it."""
        answer: asyncio.Future[FinishAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.append((report, answer))
        self._wake.set()
        return await answer

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            await self.run_once()
            if not self._waiting:
                self._wake.clear()

    async def run_once(self) -> None:
        """Send what waits, in one request."""
        sending = self._next()
        if not sending:
            return
        reports = [report for report, _ in sending]
        offered = self._offer(reports)
        claim = None if offered is None else {"request_id": secrets.token_hex(12), "free": offered}
        body: FinishRequest = {"reports": reports, "claim": claim}  # type: ignore[typeddict-item]
        sent = boottime()
        tries = 0
        while True:
            try:
                reply = await self._control.finish(body)
                break
            except RgridError as error:
                log.error("The API refuses to end attempts: %s", error.message)
                await asyncio.sleep(backoff_s(tries))
                tries += 1
        self._taken(reply, offered, sent)
        for (_, future), answer in zip(sending, reply["answers"], strict=True):
            if not future.done():
                future.set_result(answer)

    def _next(self) -> list[tuple[FinishReport, asyncio.Future[FinishAnswer]]]:
        """As many as go well into one request; whose execution was given up meanwhile is dropped."""
        self._waiting = [(report, answer) for report, answer in self._waiting if not answer.done()]
        count, entries = 0, 0
        for report, _ in self._waiting[:MAX_REPORTS]:
            entries += len(report["manifest"]["entries"])
            if count and entries > MAX_ENTRIES:
                break
            count += 1
        sending, self._waiting = self._waiting[:count], self._waiting[count:]
        return sending
