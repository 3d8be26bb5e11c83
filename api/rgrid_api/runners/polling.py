"""The poll: leases renewed, executions claimed, commands fetched, in one long request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from rgrid_api.db.session import Database
from rgrid_api.events.hub import Hub
from rgrid_api.queue.claiming import Claimed, Seen
from rgrid_api.queue.outcome import Ref
from rgrid_api.queue.queue import Queue
from rgrid_api.runners.handover import Handover
from rgrid_api.runners.registry import unknown_runner
from rgrid_shared.protocol import AttemptRef, ClaimRequest, Kill, PollReply, PollRequest
from rgrid_shared.states import FailureClass

_TOLD_KEPT: Final = 50_000


class Poller:
    """Answers polls of all runners of this process."""

    def __init__(self, database: Database, hub: Hub, queue: Queue, handover: Handover) -> None:
        self._database = database
        self._hub = hub
        self._queue = queue
        self._handover = handover
        self._told: dict[Ref, float] = {}

    async def poll(
        self, runner_id: str, token_id: str, request: PollRequest, gone: Callable[[], Awaitable[bool]]
    ) -> PollReply:
        """Answer at once if there is something to say, or after ``wait_s`` seconds, or when this process ends.

        Leases are renewed when the poll arrives, not again while it waits. ``gone`` says whether the runner has hung
        up: then nothing more is claimed for it. Raises NotFound for an unknown runner.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + request["wait_s"]
        offer = request["claim"] if request["claim"] and request["claim"]["free"]["slots"] else None
        refs = [(ref["execution_id"], ref["attempt"]) for ref in request["attempts"]]
        topics = {f"r:{runner_id}"} if offer is None else {f"r:{runner_id}", "q"}
        async with self._hub.subscribe(topics) as subscription:
            granted: list[AttemptRef] | None = None
            while True:
                seen, claimed = await self._look(
                    runner_id, token_id, refs, offer, first=granted is None, draining=request["draining"]
                )
                if granted is None:
                    granted = [{"execution_id": ref[0], "attempt": ref[1]} for ref in refs if ref in seen.held]
                kills = self._kills(refs, seen)
                left_s = until - loop.time()
                if claimed or self._is_news(kills, loop.time()) or left_s <= 0 or self._hub.stopping:
                    claims, specs = await self._handover.hand_over(claimed)
                    return {"granted": granted, "kill": kills, "claims": claims, "specs": specs}
                await subscription.wait(min(left_s, self._queue.timing.recheck_s))
                if await gone():
                    return {"granted": granted, "kill": kills, "claims": [], "specs": {}}

    async def claim(self, runner_id: str, token_id: str, request: ClaimRequest | None) -> list[Claimed]:
        """Claim without a poll: what a finish offers."""
        if request is None or not request["free"]["slots"]:
            return []
        _, claimed = await self._look(runner_id, token_id, [], request, first=False, draining=None)
        return claimed

    async def _look(
        self,
        runner_id: str,
        token_id: str,
        refs: list[Ref],
        offer: ClaimRequest | None,
        *,
        first: bool,
        draining: bool | None,
    ) -> tuple[Seen, list[Claimed]]:
        async with self._database.transaction() as tx:
            seen = await self._queue.claims.seen(
                tx, runner_id, token_id, attempts=refs, renew=first, claiming=offer is not None, draining=draining
            )
            if seen is None:
                raise unknown_runner(runner_id)
            return seen, [] if offer is None else await self._queue.claims.claim(tx, runner_id, offer, seen)

    def _kills(self, refs: list[Ref], seen: Seen) -> list[Kill]:
        kills: list[Kill] = []
        for ref in refs:
            if ref not in seen.held:
                kills.append({"execution_id": ref[0], "attempt": ref[1], "reason": "stale"})
            elif seen.held[ref]:
                kills.append({"execution_id": ref[0], "attempt": ref[1], "reason": FailureClass.CANCELLED})
        return kills

    def _is_news(self, kills: list[Kill], now_s: float) -> bool:
        """True if some command was not given a moment ago: work that is being stopped stays listed for a while."""
        again_s = self._queue.timing.recheck_s
        news = [
            ref
            for ref in ((kill["execution_id"], kill["attempt"]) for kill in kills)
            if now_s - self._told.get(ref, -again_s) >= again_s
        ]
        if len(self._told) > _TOLD_KEPT:
            self._told.clear()
        self._told.update(dict.fromkeys(news, now_s))
        return bool(news)
