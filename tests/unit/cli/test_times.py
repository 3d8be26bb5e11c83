"""Times, durations and sizes as people read and type them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.times import ago_text, duration_text, moment, seconds_of, size_text, span_text
from rgrid_shared.errors import UsageError

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("2d", 172800), ("500ms", 0.5), ("1.5h", 5400), ("45", 45), ("2 h", 7200)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """Durations are numbers with units, in any combination; a bare number is seconds."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1x", "h", "1h-", "--"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError):
        seconds_of(text)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("2h", "2026-01-31T10:00:00.000000Z"),
        ("2026-01-30T12:00:00+00:00", "2026-01-30T12:00:00.000000Z"),
        ("2026-01-30T13:30:00+01:30", "2026-01-30T12:00:00.000000Z"),
    ],
)
def test_moments_are_durations_ago_or_times(text: str, wire: str) -> None:
    """``--since 2h`` and ``--since TIME`` become the same wire form."""
    assert moment(text, NOW) == wire


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (12, "12 s"), (59.6, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_written_in_two_units(seconds: float, text: str) -> None:
    """A duration is as exact as a reader wants it."""
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (20 << 20, "20 MiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes_are_written_in_iec_units(count: int, text: str) -> None:
    """Sizes are powers of 1024 and say so."""
    assert size_text(count) == text


@given(st.integers(min_value=0, max_value=2**60))
def test_every_size_is_short(count: int) -> None:
    """No size takes more than nine characters."""
    assert len(size_text(count)) <= 9


@given(st.floats(min_value=0, max_value=1e8))
def test_every_duration_is_short(seconds: float) -> None:
    """No duration takes more than fifteen characters, and none shows 60 of a unit."""
    text = duration_text(seconds)
    assert len(text) <= 15
    assert "60 s" not in text
    assert "60 min" not in text


def test_spans_run_until_now_while_they_are_open() -> None:
    """What has no end yet is measured until now; what has no start has no duration."""
    assert span_text("2026-01-31T11:59:30.000000Z", None, NOW) == "30 s"
    assert span_text(None, None, NOW) == ""
    assert ago_text("2026-01-31T11:50:00.000000Z", NOW) == "10 min ago"
    assert ago_text("2026-01-31T11:59:59.000000Z", NOW) == "just now"
