"""The framing between agent and shim, and on disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid_runner.shim import frames
from rgrid_runner.shim.order import Order

FRAMES = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.lists(st.binary(max_size=300), max_size=5)),
    max_size=6,
)


@given(FRAMES, st.integers(1, 50))
def test_frames_survive_any_cut(sent: list[tuple[int, int, list[bytes]]], piece: int) -> None:
    """What is packed comes out again, however the socket cuts it."""
    data = b"".join(frames.pack(kind, number, *fields) for kind, number, fields in sent)
    splitter = frames.Splitter()
    received = [frame for at in range(0, len(data), piece) for frame in splitter.feed(data[at : at + piece])]
    assert received == sent


def test_a_field_that_is_cut_short_is_an_error() -> None:
    """A payload whose length lies is refused instead of misread."""
    with pytest.raises(ValueError, match="cut short"):
        frames.unpack(b"\xff\0\0\0abc")


@given(
    st.lists(st.binary(max_size=20), min_size=1, max_size=5),
    st.dictionaries(st.binary(min_size=1, max_size=10), st.binary(max_size=20), max_size=5),
    st.integers(-1, 2**60),
)
def test_orders_survive_the_socket(argv: list[bytes], env: dict[bytes, bytes], timeout_ms: int) -> None:
    """The shim reads the order that the agent wrote."""
    order = Order(
        key=b"exe_1.1",
        spool=b"/s",
        cwd=b"/c",
        stdin=b"",
        lease_ms=5,
        timeout_ms=timeout_ms,
        grace_ms=1,
        lost_after_ms=2,
        memory=3,
        log_limit=4,
        argv=argv,
        env=env,
    )
    assert vars(Order.read(order.fields())) == vars(order)
