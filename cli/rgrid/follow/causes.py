"""Failures grouped by what caused them: "37 of 40 failures share this"."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rgrid.follow.ending import trouble

if TYPE_CHECKING:
    from rgrid_shared.views import ExecutionView

_VARYING: Final = (
    (re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{8,}\b"), "#"),
    (re.compile(r"(['\"]).*?\1"), "'…'"),
    (re.compile(r"(?:[~.\w-]*/)+[\w.+-]*"), "/…"),
    (re.compile(r"\b\w[\w-]*\.[A-Za-z]\w{0,4}\b"), "…"),
    (re.compile(r"\d+(?:\.\d+)?"), "#"),
)
EXAMPLES: Final = 5


@dataclass(slots=True)
class Cause:
    """One cause: its words as they stood in the first failure, and the items that it hit."""

    words: str
    items: list[int] = field(default_factory=list)


def words_of(view: ExecutionView) -> str:
    """What a failure says for itself: the last line of the script's message, or what befell it."""
    lines = [line.strip() for line in view["message"].splitlines() if line.strip()]
    if words := trouble(view):
        return words.splitlines()[0]
    return lines[-1] if lines else f"exit code {view['exit_code']}"


def shape_of(words: str) -> str:
    """``words`` with everything taken out that differs from item to item: numbers, addresses, names of files."""
    for pattern, sign in _VARYING:
        words = pattern.sub(sign, words)
    return words


class Causes:
    """Groups failures as they come; an item that fails again or succeeds at last moves."""

    def __init__(self) -> None:
        self._by_shape: dict[str, Cause] = {}
        self._shape_of_item: dict[int, str] = {}

    def add(self, view: ExecutionView) -> None:
        """Take a failed execution in."""
        self.remove(view["index"])
        words = words_of(view)
        shape = shape_of(words)
        self._shape_of_item[view["index"]] = shape
        self._by_shape.setdefault(shape, Cause(words)).items.append(view["index"])

    def remove(self, index: int) -> None:
        """The item has not failed after all."""
        shape = self._shape_of_item.pop(index, None)
        if shape is not None:
            cause = self._by_shape[shape]
            cause.items.remove(index)
            if not cause.items:
                del self._by_shape[shape]

    def __len__(self) -> int:
        return len(self._shape_of_item)

    def largest(self, count: int) -> list[Cause]:
        """The causes of most failures first."""
        return sorted(self._by_shape.values(), key=lambda cause: -len(cause.items))[:count]

    def lines(self, count: int = 5) -> list[str]:
        """One line for each of the largest causes, and how many more there are."""
        found = [f"{len(cause.items)} × {cause.words} ({_items(cause.items)})" for cause in self.largest(count)]
        rest = len(self._by_shape) - len(found)
        return found + ([f"and {rest} other cause{'s' * (rest != 1)}"] if rest > 0 else [])


def _items(indexes: list[int]) -> str:
    shown = ", ".join(str(index) for index in sorted(indexes)[:EXAMPLES])
    more = "" if len(indexes) <= EXAMPLES else ", …"
    return f"item{'s' * (len(indexes) != 1)} {shown}{more}"
