"""What a follower of a batch remembers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rgrid_api.follow.seen import Seen
from rgrid_shared.states import FINAL, Status

CHANGES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 3), st.sampled_from(list(Status))))


@given(CHANGES)
def test_counts_are_those_of_each_items_latest_state(changes: list[tuple[int, int, int, Status]]) -> None:
    """However items change, the counts equal what counting their last states would give."""
    seen = Seen(5)
    latest: dict[int, Status] = {}
    last: dict[int, tuple[int, int]] = {}
    for index, execution, version, status in changes:
        fresh = seen.take(index, f"exe_{execution}", version, status)
        assert fresh == (last.get(index) != (execution, version))
        if fresh:
            latest[index], last[index] = status, (execution, version)
        assert seen.knows(index, f"exe_{execution}", version)
    statuses = list(latest.values())
    assert seen.counts == {status: statuses.count(status) for status in Status}
    assert seen.open == sum(status not in FINAL for status in statuses)
    assert seen.ended == (len(statuses) == 5 and seen.open == 0)


def test_a_hundred_thousand_items_take_under_a_mebibyte() -> None:
    """A follower of the largest batch is small."""
    seen = Seen(100_000)
    assert seen._prints.itemsize * len(seen._prints) + len(seen._statuses) < 2**20
