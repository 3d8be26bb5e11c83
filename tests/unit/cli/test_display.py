"""Progress of a batch in numbers."""

from __future__ import annotations

from typing import Any, cast

import pytest

from rgrid.counts import counts_text, ended
from rgrid.follow.display import Pace, progress_text
from rgrid_shared.states import Status
from rgrid_shared.views import BatchView, Counts


def batch(total: int, **counts: int) -> BatchView:
    numbers = {str(status): counts.get(status, 0) for status in Status}
    return cast("BatchView", cast("Any", {"total": total, "counts": numbers}))


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    """A batch that was slow an hour ago and is fast now shows its present rate."""
    pace = Pace()
    pace.mark(0.0, 1)
    for second in range(3600, 3640):
        pace.mark(float(second), 10 * (second - 3600) + 2)
    assert pace.rate(3640.0) == pytest.approx(10, rel=0.1)
    assert pace.eta_s(3640.0, 100) == pytest.approx(10, rel=0.1)


def test_nothing_is_claimed_before_it_is_known() -> None:
    """Without two marks there is no rate and no estimate."""
    pace = Pace()
    assert pace.rate(1.0) == 0
    assert pace.eta_s(1.0, 5) is None


def test_progress_in_one_line() -> None:
    """Done, failed, running, queued; nothing that is zero."""
    text = progress_text(batch(10, succeeded=3, timed_out=1, running=2, pending=1, queued=3), Pace(), 0.0)
    assert text == "4/10 done · 1 failed · 2 running · 4 queued"


def test_counts_add_up() -> None:
    """Every status is in exactly one of the sums."""
    counts = cast("Counts", dict.fromkeys(Status, 1))
    assert ended(counts) == 5
    assert counts_text(counts) == "1 succeeded, 2 failed, 2 cancelled, 1 running, 3 queued"
