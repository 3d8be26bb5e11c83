"""Identifiers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rgrid_shared import ids

TIMES = st.integers(0, 2**48 - 1)
ENTROPY = st.integers(0, 2**60)


@given(st.sampled_from(ids.Kind), TIMES, ENTROPY)
def test_an_id_names_its_kind(kind: ids.Kind, now_ms: int, entropy: int) -> None:
    """Every id can be told by its prefix and is whole."""
    made = ids.make(kind, now_ms, entropy)
    assert ids.kind_of(made) is kind
    assert ids.is_whole(made, kind)
    assert not ids.is_whole(made[:-1], kind)


@given(TIMES, TIMES, ENTROPY, ENTROPY)
def test_ids_sort_by_time(one: int, two: int, entropy_one: int, entropy_two: int) -> None:
    """An id made in a later millisecond sorts after an earlier one, whatever its random part."""
    first = ids.make(ids.Kind.BATCH, one, entropy_one)
    second = ids.make(ids.Kind.BATCH, two, entropy_two)
    if one != two:
        assert (first < second) == (one < two)


def test_what_is_no_id_is_refused() -> None:
    """Unknown prefixes, foreign letters and overlong bodies are not ids."""
    for text in ("", "bat", "xyz_0", "bat_U", "bat_il", "bat_" + "0" * 21):
        assert ids.kind_of(text) is None
    assert ids.kind_of("bat_01m8") is ids.Kind.BATCH
