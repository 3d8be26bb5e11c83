"""Gives up attempts whose runner has gone away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rgrid_api.db.session import Database
from rgrid_api.queue.ending import end_attempts, standings
from rgrid_api.queue.outcome import Outcome
from rgrid_api.queue.timing import Timing
from rgrid_shared.states import FailureClass

PAGE: Final = 500


class Patience:
    """Whether expired leases may be trusted to mean that a runner is gone.

    After a gap of its own (this process slept, or the database was away or restarted) a sweeper cannot know whether
    runners were able to renew; it then waits one whole lease.
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._last: float | None = None
        self._started: object = None
        self._trust_from = 0.0

    def trusts(self, now_s: float, database_started: object) -> bool:
        """Note a sweep at ``now_s`` (seconds of a clock that also counts sleep); True if it may expire attempts.

        ``database_started`` is any value that changes when the database restarts.
        """
        gap = self._last is None or now_s - self._last > self._timing.gap_s or database_started != self._started
        self._last, self._started = now_s, database_started
        if gap:
            self._trust_from = now_s + self._timing.lease_s
        return now_s >= self._trust_from


class Sweeper:
    """Every replica has one; each attempt ends once, by the same guarded path as a runner's own report."""

    def __init__(self, database: Database, timing: Timing, clock: Callable[[], float]) -> None:
        """``clock``: seconds of CLOCK_BOOTTIME."""
        self._database = database
        self._clock = clock
        self._patience = Patience(timing)

    async def run_once(self) -> int:
        """End attempts whose lease is over as ``FailureClass.RUNNER_LOST``; how many that were."""
        async with self._database.read() as tx:
            started = (await tx.run("database_started")).scalar_one()
            if not self._patience.trusts(self._clock(), started):
                return 0
            lost = list(await tx.run("attempts_expired", page=PAGE))
        if not lost:
            return 0
        outcomes = [
            Outcome(
                execution_id=row.execution_id,
                attempt=row.attempt,
                failure=FailureClass.RUNNER_LOST,
                message=f"Nothing was heard of runner {row.runner} for a whole lease.",
            )
            for row in lost
        ]
        async with self._database.transaction() as tx:
            known = await standings(tx, [outcome.ref for outcome in outcomes])
            ended = await end_attempts(tx, None, outcomes, known)
        return len(ended)
