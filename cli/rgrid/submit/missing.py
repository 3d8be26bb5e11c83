"""What the grid lacks of a plan's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from rgrid.submit.hashing import Hashed
from rgrid.submit.plan import Plan
from rgrid.submit.units import show_count
from rgrid.times import size_text

if TYPE_CHECKING:
    from rgrid.client import Client

_QUERY: Final = 10_000


def missing(client: Client, files: Mapping[str, Hashed]) -> list[Hashed]:
    """One file for each blob that the grid does not have."""
    by_hash = {file.sha256: file for file in files.values() if file.size}
    blobs = list(by_hash.values())
    absent: list[Hashed] = []
    for start in range(0, len(blobs), _QUERY):
        page = blobs[start : start + _QUERY]
        names = client.missing([{"sha256": file.sha256, "size": file.size} for file in page])
        absent += [by_hash[name] for name in names]
    return absent


def summary(plan: Plan, absent: list[Hashed]) -> str:
    """The one line about what travels: count and bytes, and how much of it the grid has already."""
    total = sum(file.size for file in plan.files.values())
    line = f"{show_count(len(plan.files), 'file')}, {size_text(total)}"
    to_send = sum(file.size for file in absent)
    if not absent:
        return f"{line}, all stored already"
    return line if to_send >= total else f"{line}, {size_text(to_send)} to send"
