"""Sums over a batch's counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from rgrid_shared.states import FINAL, Status

if TYPE_CHECKING:
    from rgrid_shared.views import Counts


def count(counts: Counts, *statuses: Status) -> int:
    """Items in any of these statuses."""
    by_status = cast("Mapping[str, int]", counts)
    return sum(by_status[status] for status in statuses)


def succeeded(counts: Counts) -> int:
    """Items that succeeded."""
    return count(counts, Status.SUCCEEDED)


def failed(counts: Counts) -> int:
    """Items that failed or ran out of time."""
    return count(counts, Status.FAILED, Status.TIMED_OUT)


def stopped(counts: Counts) -> int:
    """Items that never came to their own end: cancelled or skipped."""
    return count(counts, Status.CANCELLED, Status.SKIPPED)


def running(counts: Counts) -> int:
    """Items on a runner."""
    return count(counts, Status.RUNNING)


def waiting(counts: Counts) -> int:
    """Items that have not started."""
    return count(counts, Status.QUEUED, Status.PENDING, Status.BLOCKED)


def ended(counts: Counts) -> int:
    """Items that have ended, however."""
    return count(counts, *FINAL)


def counts_text(counts: Counts) -> str:
    """``120 succeeded, 2 failed, 4 running, 74 queued``: what is not zero, in words."""
    groups = (
        (succeeded(counts), Status.SUCCEEDED),
        (failed(counts), Status.FAILED),
        (stopped(counts), Status.CANCELLED),
        (running(counts), Status.RUNNING),
        (waiting(counts), Status.QUEUED),
    )
    return ", ".join(f"{number} {word}" for number, word in groups if number)
