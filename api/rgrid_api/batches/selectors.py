"""Which items of a batch: ``1,3-5``."""

from __future__ import annotations

import re
from typing import Final

from rgrid_shared.errors import InvalidRequest
from rgrid_shared.specs import MAX_ITEMS

MAX_RANGES: Final = 1_000
_RANGE: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def parse_indexes(text: str) -> list[tuple[int, int]]:
    """Ranges of item indexes, ends included: ``1,3-5`` is ``[(1, 1), (3, 5)]``. Raises InvalidRequest."""
    parts = text.split(",")
    if len(parts) > MAX_RANGES:
        raise InvalidRequest(f"query parameter index holds more than {MAX_RANGES:,} ranges")
    found = []
    for part in parts:
        match = _RANGE.fullmatch(part.strip())
        low = int(match[1]) if match else 0
        high = int(match[2] or match[1]) if match else -1
        if low > high:
            raise InvalidRequest(f"query parameter index is not clear: {part[:40]!r}", hint="for example 1,3-5")
        found.append((low, min(high, MAX_ITEMS)))
    return found
