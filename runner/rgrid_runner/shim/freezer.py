"""Whether a run may go on: frozen by its agent, or by a lease that has ended."""

from __future__ import annotations

import time

TYPE_CHECKING = False  # ``typing`` costs 10 ms
if TYPE_CHECKING:
    from rgrid_runner.shim.holder import Holder

_MS = 1_000_000
_LOOK_MS = 1000


def boottime_ms() -> int:
    """Milliseconds since boot with the host's sleep counted."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)) // _MS


class Freezer:
    """Stops and resumes what ``held`` holds, and counts the time that it stood.

    ``lease_ms``: when the lease ends (CLOCK_BOOTTIME), 0 for no lease. ``lost_after_ms``: how long after that the run
    is lost.
    """

    def __init__(self, held: Holder, lease_ms: int, lost_after_ms: int) -> None:
        self._held = held
        self._lease_ms = lease_ms
        self._lost_after_ms = lost_after_ms
        self._by_agent = False
        self._by_lease = False
        self._since = 0
        self._stood_ns = 0

    @property
    def frozen(self) -> bool:
        """True while it stands."""
        return self._since > 0

    @property
    def stood_ns(self) -> int:
        """How long it stood until it was last resumed."""
        return self._stood_ns

    def freeze(self) -> None:
        """The agent wants it to stand."""
        self._by_agent = True
        self._stand()

    def thaw(self) -> None:
        """The agent lets it go on; an ended lease does not."""
        self._by_agent = False
        self._go_on()

    def renew(self, until_ms: int) -> None:
        """The lease now ends at this reading of CLOCK_BOOTTIME."""
        self._lease_ms = until_ms
        if boottime_ms() < until_ms:
            self._by_lease = False
            self._go_on()

    def look(self) -> bool:
        """Stand if the lease has ended; True if that is so long ago that the run is lost."""
        late = boottime_ms() - self._lease_ms if self._lease_ms else -1
        if late >= 0:
            self._by_lease = True
            self._stand()
        return late >= self._lost_after_ms

    def due(self, now: int) -> int:
        """When to ``look`` next (monotonic nanoseconds), 0 for never.

        At least each second, because a sleeping host's timers sleep too and the lease does not.
        """
        if not self._lease_ms:
            return 0
        left = self._lease_ms - boottime_ms()
        return now + (min(left, _LOOK_MS) if left > 0 else _LOOK_MS) * _MS

    def _stand(self) -> None:
        if not self._since:
            self._since = time.monotonic_ns()
            self._held.stop()

    def _go_on(self) -> None:
        if self._since and not (self._by_agent or self._by_lease):
            self._stood_ns += time.monotonic_ns() - self._since
            self._since = 0
            self._held.resume()
