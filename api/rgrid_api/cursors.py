"""Page cursors: opaque to clients, checked when they come back.

A cursor holds the sort key of the last row of a page; the next page starts after it, so rows that are added or
removed meanwhile neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

from rgrid_shared.errors import InvalidRequest


def encode(*key: str | int) -> str:
    """The cursor of a sort key."""
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).decode().rstrip("=")


def decode(cursor: str, kinds: Sequence[type[str] | type[int]]) -> list[str | int]:
    """The sort key behind a cursor. Raises InvalidRequest unless it holds exactly values of these kinds."""
    try:
        key = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        key = None
    if (
        not isinstance(key, list)
        or len(key) != len(kinds)
        or any(type(value) is not kind for value, kind in zip(key, kinds, strict=True))
        or any(isinstance(value, str) and "\0" in value for value in key)
        or any(isinstance(value, int) and abs(value) >= 2**31 for value in key)
    ):
        raise InvalidRequest("cursor is not one that this route gave", hint="leave it out to start at the first page")
    return key
