"""Which output goes into which object."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rgrid_runner.packing import PACK_BYTES, SMALL_BYTES, plan
from rgrid_runner.scan import Candidate

sizes = st.one_of(st.integers(0, 3), st.integers(1, SMALL_BYTES), st.integers(SMALL_BYTES, 10 * SMALL_BYTES))
files = st.lists(st.tuples(sizes, st.booleans()), max_size=40).map(
    lambda rows: [Candidate(f"f{n}", 0o644, size, n, "") for n, (size, _) in enumerate(rows)]
)


@given(files)
def test_every_byte_is_stored_once(outputs: list[Candidate]) -> None:
    """Files lie back to back in their objects; empty ones need none."""
    objects = plan(outputs)
    stored = [packed.file for planned in objects for packed in planned.files]
    assert sorted(file.path for file in stored) == sorted(file.path for file in outputs if file.size)
    for planned in objects:
        end = 0
        for packed in planned.files:
            assert packed.offset == end
            end += packed.file.size
        assert end == planned.size > 0


@given(files)
def test_packs_are_bounded_and_large_files_alone(outputs: list[Candidate]) -> None:
    """No pack exceeds what the claim's place takes; a large file shares no object."""
    for planned in plan(outputs):
        if len(planned.files) > 1:
            assert planned.size <= PACK_BYTES
            assert all(packed.file.size <= SMALL_BYTES for packed in planned.files)


def test_names_of_one_file_are_stored_once() -> None:
    """Hard links cost their bytes once."""
    twins = [Candidate("a", 0o644, 5, 7, ""), Candidate("b", 0o644, 5, 7, "")]
    assert [planned.size for planned in plan(twins)] == [5]
