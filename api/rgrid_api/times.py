"""Times as they stand on the wire: RFC 3339, UTC, microseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload

from rgrid_shared.errors import InvalidRequest
from rgrid_shared.wire import Time


@overload
def to_wire(value: datetime) -> Time: ...
@overload
def to_wire(value: datetime | None) -> Time | None: ...
def to_wire(value: datetime | None) -> Time | None:
    """An aware datetime as ``2026-01-02T03:04:05.000006Z``; None stays None."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def from_wire(text: str, field: str) -> datetime:
    """The aware datetime that a client wrote in ``field``.

    Raises InvalidRequest if it is no RFC 3339 time with an offset.
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        value = None
    if value is None or value.tzinfo is None:
        raise InvalidRequest(
            f"{field} is not a time: {text[:80]!r}",
            hint="write it with its zone, for example 2026-01-02T03:04:05Z",
        )
    return value.astimezone(UTC)
