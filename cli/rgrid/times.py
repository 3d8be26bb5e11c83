"""Times, durations and sizes as people read and type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from rgrid_shared.errors import UsageError

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhdw])")


def parse_time(text: str) -> datetime:
    """A wire time (RFC 3339) as an aware ``datetime``. Raises ``ValueError`` for anything else."""
    return datetime.fromisoformat(text)


def seconds_of(text: str) -> float:
    """Seconds of a duration such as ``90s``, ``1h30m`` or ``2d``; a bare number is seconds.

    Raises ``UsageError`` for anything else.
    """
    compact = text.strip().lower()
    try:
        return float(compact)
    except ValueError:
        pass
    if not compact or _PART.sub("", compact).strip():
        raise UsageError(f"{text!r} is not a duration.", hint="Write it as 90s, 15m, 2h or 1d.")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(compact))


def moment(text: str, now: datetime) -> str:
    """A point in time as the wire writes it, from ``2h`` (ago), a date, or a date and time (local unless it says).

    Raises ``UsageError`` for anything else.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            found = now - timedelta(seconds=seconds_of(text))
        except UsageError as error:
            raise UsageError(
                f"{text!r} is neither a duration nor a time.", hint="Write it as 2h, 2026-01-31 or 2026-01-31T12:00."
            ) from error
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def duration_text(seconds: float) -> str:
    """A duration in at most two units: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    for unit, below, small, name in ((60, 3600, 1, ("min", "s")), (3600, 86400, 60, ("h", "min"))):
        if whole < 60:
            return f"{whole} s"
        if whole < below:
            rest = whole % unit // small
            return f"{whole // unit} {name[0]}" + (f" {rest} {name[1]}" if rest else "")
    rest = whole % 86400 // 3600
    return f"{whole // 86400} d" + (f" {rest} h" if rest else "")


def size_text(count: int) -> str:
    """Bytes in IEC units: ``0 B``, ``512 B``, ``1.5 KiB``, ``20 MiB``."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        value /= 1024
        if value < 1023.95 or unit == "PiB":
            return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
    raise AssertionError("unreachable")


def time_text(wire: str | None, *, utc: bool = False) -> str:
    """A wire time for people, local (or UTC) with its zone, to the second; empty for None."""
    if not wire:
        return ""
    found = parse_time(wire).astimezone(UTC if utc else None)
    return found.strftime("%Y-%m-%d %H:%M:%S %Z")


def ago_text(wire: str | None, now: datetime) -> str:
    """How long ago a wire time was: ``just now``, ``3 min ago``; empty for None."""
    if not wire:
        return ""
    seconds = (now - parse_time(wire)).total_seconds()
    if seconds < 5:
        return "just now"
    number, unit = duration_text(max(seconds, 10) if seconds >= 9.95 else int(seconds)).split()[:2]
    return f"{number.removesuffix('.0')} {unit} ago"


def span_text(start: str | None, end: str | None, now: datetime) -> str:
    """The time from ``start`` to ``end``, or to ``now`` while there is no end; empty before the start."""
    if not start:
        return ""
    until = parse_time(end) if end else now
    return duration_text((until - parse_time(start)).total_seconds())
