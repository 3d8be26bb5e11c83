"""Which layers make room for others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rgrid_runner.layer_shelf import Kept, surplus

SHELF = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2), st.builds(Kept, st.integers(0, 100), st.floats(0, 100)), max_size=20
)


@given(SHELF, st.integers(0, 500), st.sets(st.text("abcdef", min_size=1, max_size=2)))
def test_the_budget_is_kept_by_the_least_recently_used(kept: dict[str, Kept], budget: int, in_use: set[str]) -> None:
    """None in use goes; what goes was used before what stays; no more goes than has to; the rest fits if it can."""
    gone = surplus(kept, budget, in_use)
    assert not in_use & set(gone)
    left = {key: each for key, each in kept.items() if key not in gone}
    size = sum(each.size for each in left.values())
    free = left.keys() - in_use
    assert size <= budget or not free
    if gone:
        assert size + kept[gone[-1]].size > budget
        newest = max(kept[key].used_at for key in gone)
        assert all(left[key].used_at >= newest for key in free)
