"""What people type to name runs: ids, prefixes, ``last``, ``last:3``, and items within a batch (``1,3-5``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rgrid_shared.errors import NotFound, UsageError
from rgrid_shared.ids import ALPHABET, Kind, kind_of

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid_shared.views import BatchDetail, ExecutionView

LAST: Final = re.compile(r"last(:[1-9]\d{0,5})?")
LARGEST_INDEX: Final = 100_000
HINT: Final = "rgrid list shows what there is."


@dataclass(frozen=True, slots=True)
class Found:
    """A batch, and those of its items that were asked for; ``indexes`` None means all."""

    batch: BatchDetail
    indexes: list[int] | None

    def executions(self, client: Client, *, all_attempts: bool = False) -> Iterator[ExecutionView]:
        """The items' executions by index; the latest of each unless ``all_attempts``."""
        query: dict[str, Any] = {"index": index_text(self.indexes), "limit": 1000, "all": "1" if all_attempts else None}
        yield from client.pages(lambda page: client.executions(self.batch["id"], page), query, "executions")

    def execution(self, client: Client) -> ExecutionView:
        """The one execution that is meant. Raises ``UsageError`` if there are several."""
        if self.indexes is None and self.batch["total"] > 1:
            raise UsageError(
                f"{self.batch['id']} has {self.batch['total']} items; say which one.",
                hint=f"For example its first: {self.batch['id']} 0",
            )
        found = list(self.executions(client))
        if len(found) != 1:
            raise UsageError("Name one item.", hint=f"For example its first: {self.batch['id']} 0")
        return found[0]


def parse_items(text: str) -> list[int]:
    """Indexes, ascending and without repeats, from ``0``, ``1,3-5``. Raises ``UsageError`` naming the part."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise UsageError(f"{part!r} in {text!r} names no item.", hint="Items are numbered from 0: 1,3-5")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= LARGEST_INDEX:
            raise UsageError(f"{part!r} in {text!r} is no range of items.", hint="Items are numbered from 0: 1,3-5")
        found.update(range(first, last + 1))
    return sorted(found)


def index_text(indexes: list[int] | None) -> str | None:
    """Indexes as the API takes them, runs written as ``3-5``; None for None."""
    if indexes is None:
        return None
    parts: list[str] = []
    at = 0
    while at < len(indexes):
        end = at
        while end + 1 < len(indexes) and indexes[end + 1] == indexes[end] + 1:
            end += 1
        parts.append(str(indexes[at]) if end == at else f"{indexes[at]}-{indexes[end]}")
        at = end + 1
    return ",".join(parts)


def find(client: Client, target: str, items: str | None = None) -> Found:
    """The batch (and items) that ``target`` names; an execution's id names its batch and itself.

    Raises ``UsageError`` for what can be no id, ``NotFound`` for what is not there.
    """
    indexes = parse_items(items) if items is not None else None
    kind = Kind.BATCH if LAST.fullmatch(target) else kind_of(target)
    if kind is None and 4 <= len(target) <= 20 and all(char in ALPHABET for char in target):
        try:
            return find(client, f"{Kind.BATCH}_{target}", items)
        except NotFound:
            return find(client, f"{Kind.EXECUTION}_{target}", items)
    if kind is Kind.BATCH:
        return _checked(Found(_batch(client, target), indexes))
    if kind is Kind.EXECUTION:
        if indexes is not None:
            raise UsageError(f"{target} is one execution and has no items {items}.")
        try:
            execution = client.execution(target)
        except NotFound as error:
            raise NotFound(f"There is no execution {target}.", hint=HINT) from error
        return Found(_batch(client, execution["batch_id"]), [execution["index"]])
    raise UsageError(
        f"{target!r} names no run: an id begins with {Kind.BATCH}_ or {Kind.EXECUTION}_; `last` is the newest.",
        hint=HINT,
    )


def _batch(client: Client, target: str) -> BatchDetail:
    try:
        return client.batch(target)
    except NotFound as error:
        words = "Nothing has run here yet." if target == "last" else f"There is no batch {target}."
        raise NotFound(words, hint=HINT) from error


def _checked(found: Found) -> Found:
    total = found.batch["total"]
    if found.indexes and found.indexes[-1] >= total:
        raise UsageError(
            f"{found.batch['id']} has {total} item{'s' * (total != 1)}; there is no item {found.indexes[-1]}.",
            hint="Items are numbered from 0.",
        )
    return found
