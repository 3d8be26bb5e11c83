"""When a user last asked for something: what lets an idle embedded grid stop."""

from __future__ import annotations

import time


def counts_as_use(method: str, path: str) -> bool:
    """True for requests of users; false for runners, health checks and the question for activity itself."""
    if not path.startswith("/v1/") or path == "/v1/activity":
        return False
    return not path.startswith("/v1/runners") or (path == "/v1/runners" and method == "GET")


class UseClock:
    """Counts requests of users in this process, open WebSockets included."""

    def __init__(self) -> None:
        self._open = 0
        self._last = time.monotonic()

    def begin(self) -> None:
        """A request of a user has come."""
        self._open += 1

    def end(self, *, refused: bool) -> None:
        """It is answered; a refused one (no valid key, another version) is no use."""
        self._open -= 1
        if not refused:
            self._last = time.monotonic()

    def idle_s(self) -> float:
        """Seconds since the last request of a user ended, 0 while one is open; since the start if there was none."""
        return 0.0 if self._open else time.monotonic() - self._last
