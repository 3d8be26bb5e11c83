"""Which requests bring which blobs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rgrid_runner.fetch import GAP_BYTES, GROUP_BYTES, plan
from rgrid_shared.protocol import BlobUrl


def blob(number: int, size: int, offset: int, key: str = "k", signature: str = "1") -> BlobUrl:
    return {"sha256": f"{number:064x}", "size": size, "offset": offset, "url": f"http://s/{key}?sig={signature}"}


blobs = st.lists(
    st.tuples(
        st.integers(1, 3 * GROUP_BYTES), st.integers(0, 4 * GROUP_BYTES), st.sampled_from("ab"), st.sampled_from("12")
    ),
    max_size=30,
).map(lambda rows: [blob(number, *row) for number, row in enumerate(rows)])


@given(blobs)
def test_every_blob_lies_within_exactly_one_request(wanted: list[BlobUrl]) -> None:
    """Nothing is left out, asked for twice, or cut."""
    gets = plan(wanted)
    assert sorted(each["sha256"] for get in gets for each in get.blobs) == sorted(each["sha256"] for each in wanted)
    for get in gets:
        for each in get.blobs:
            assert each["url"].partition("?")[0] == get.url.partition("?")[0]
            assert get.offset <= each["offset"]
            assert each["offset"] + each["size"] <= get.offset + get.size


@given(blobs)
def test_only_a_single_blob_makes_a_request_larger_than_a_group(wanted: list[BlobUrl]) -> None:
    """What is held in memory at once is bounded."""
    assert all(len(get.blobs) == 1 for get in plan(wanted) if get.size > GROUP_BYTES)


def test_neighbours_come_together() -> None:
    """Packed small files cost one request, whatever the signatures of their URLs."""
    assert len(plan([blob(n, 100, n * 100, signature=str(n)) for n in range(500)])) == 1


def test_a_gap_splits() -> None:
    """Bytes that nobody needs are not fetched, unless a second request would cost more."""
    assert len(plan([blob(1, 10, 0), blob(2, 10, 10 + GAP_BYTES)])) == 1
    assert len(plan([blob(1, 10, 0), blob(2, 10, 11 + GAP_BYTES)])) == 2
