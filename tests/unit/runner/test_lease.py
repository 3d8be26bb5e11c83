"""When work must stand still, and when to ask again."""

from __future__ import annotations

import pytest

from rgrid_runner.lease import RELIST_S, Terms

TERMS = Terms(lease_s=40, poll_s=10, fence_s=25)


def test_a_grant_counts_from_when_it_was_asked_for() -> None:
    """The API acted on a poll after it was sent, so work frozen then is frozen before the lease ends."""
    assert TERMS.until(100.0) == 125.0 < 100.0 + TERMS.lease_s


def test_two_renewals_fit_before_the_fence() -> None:
    """One lost renewal freezes nothing."""
    assert TERMS.renewal_wait_s(0.0, [25.0]) * 2 < TERMS.fence_s


def test_a_near_deadline_is_renewed_at_once() -> None:
    """A renewal does not wait at the API while work is about to freeze."""
    assert TERMS.renewal_wait_s(0.0, [25.0, 5.0]) == 0.0
    assert TERMS.renewal_wait_s(0.0, []) > 0.0


def test_only_attempts_that_last_are_listed_anew() -> None:
    """Executions of a few milliseconds cause no renewals."""
    assert TERMS.relist_in_s(10.0, []) is None
    assert TERMS.relist_in_s(10.0, [10.0]) == pytest.approx(RELIST_S)
    assert TERMS.relist_in_s(10.0, [9.0, 10.0]) == 0.0
