"""Leases: which attempts to list in a poll, how long the poll may wait, and until when a grant counts.

The clock is CLOCK_BOOTTIME, which goes on while the host sleeps; a grant counts from the moment its poll was *sent*,
since nobody can tell when the API acted on it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rgrid_shared.protocol import RegisterReply

RELIST_S: Final = 0.25
"""An attempt that is this old and not in the poll that waits at the API makes the poll be sent anew. What is shorter
needs no renewal and cannot be cancelled any sooner than it ends."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The API's times, in seconds."""

    lease_s: float
    poll_s: float
    fence_s: float

    @classmethod
    def of(cls, reply: RegisterReply) -> Terms:
        """As registration answered."""
        return cls(reply["lease_s"], reply["poll_s"], reply["fence_s"])

    def until(self, sent: float) -> float:
        """When work freezes if this poll's grant is the last one."""
        return sent + self.fence_s

    def claim_wait_s(self, *, busy: bool) -> float:
        """How long an offer may wait. While other work runs room may grow, and a larger offer is made soon."""
        return self.poll_s * 0.3 if busy else self.poll_s

    def renewal_wait_s(self, now: float, deadlines: Iterable[float]) -> float:
        """How long a renewal may wait at the API: not at all if a deadline is near, else less than a poll's time."""
        nearest = min(deadlines, default=now + self.fence_s)
        return 0.0 if nearest - now < self.fence_s / 2 else self.poll_s * 0.8

    def relist_in_s(self, now: float, unlisted: Iterable[float]) -> float | None:
        """In how many seconds the waiting poll is to be sent anew; None: it lists all there is.

        ``unlisted``: when the attempts that it does not list were claimed.
        """
        oldest = min(unlisted, default=None)
        return None if oldest is None else max(0.0, oldest + RELIST_S - now)
