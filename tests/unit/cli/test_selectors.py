"""Items within a batch, as typed and as sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.selectors import index_text, parse_items
from rgrid_shared.errors import UsageError


@pytest.mark.parametrize(
    ("text", "items"), [("0", [0]), ("1,3-5", [1, 3, 4, 5]), ("5,1,5", [1, 5]), (" 2 , 4 ", [2, 4]), ("7-7", [7])]
)
def test_items_are_read(text: str, items: list[int]) -> None:
    """Numbers and ranges, in any order, each once."""
    assert parse_items(text) == items


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "1-200000", "1.5"])
def test_what_names_no_item_is_refused(text: str) -> None:
    """A wrong part is named and nothing is guessed."""
    with pytest.raises(UsageError) as caught:
        parse_items(text)
    assert "Items are numbered from 0" in caught.value.hint


@given(st.sets(st.integers(min_value=0, max_value=2000), min_size=1, max_size=60))
def test_items_survive_the_way_to_the_api(items: set[int]) -> None:
    """What is sent reads back as the same items."""
    assert parse_items(index_text(sorted(items)) or "") == sorted(items)


def test_ranges_are_sent_short() -> None:
    """Runs are written as ranges, and no choice as nothing."""
    assert index_text([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert index_text(None) is None
