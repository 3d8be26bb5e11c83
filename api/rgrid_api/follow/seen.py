"""What a follower of a batch has been told: small enough to be kept for 100,000 items (9 bytes each)."""

from __future__ import annotations

from array import array
from typing import Final, cast

from rgrid_shared.states import FINAL, Status
from rgrid_shared.views import Counts

_STATUSES: Final = tuple(Status)
_NUMBERS: Final = {str(status): number for number, status in enumerate(_STATUSES)}
_UNKNOWN: Final = 255


class Seen:
    """Which version of each item's latest execution was sent, and how many items stand in each status.

    A version is told apart by a 64-bit fingerprint of execution and version. Rows come from snapshots that follow one
    another, so a fingerprint that differs is news, never the past.
    """

    def __init__(self, total: int) -> None:
        self._prints = array("q", bytes(8 * total))
        self._statuses = bytearray([_UNKNOWN]) * total
        self._counts = [0] * len(_STATUSES)

    def knows(self, index: int, execution_id: str, version: int) -> bool:
        """True if exactly this version of this execution was taken before."""
        return self._prints[index] == hash((execution_id, version))

    def take(self, index: int, execution_id: str, version: int, status: str) -> bool:
        """Note what item ``index`` looks like now; False if that was known."""
        if self.knows(index, execution_id, version):
            return False
        self._prints[index] = hash((execution_id, version))
        old, new = self._statuses[index], _NUMBERS[status]
        if old != _UNKNOWN:
            self._counts[old] -= 1
        self._counts[new] += 1
        self._statuses[index] = new
        return True

    @property
    def counts(self) -> Counts:
        """Items in each status; those that have not arrived are in none."""
        return cast("Counts", {str(status): self._counts[number] for number, status in enumerate(_STATUSES)})

    @property
    def ended(self) -> bool:
        """True if every item has ended."""
        return self._ended == len(self._prints)

    @property
    def open(self) -> int:
        """Items that have arrived and not ended."""
        return sum(self._counts) - self._ended

    @property
    def _ended(self) -> int:
        return sum(self._counts[_NUMBERS[status]] for status in FINAL)
