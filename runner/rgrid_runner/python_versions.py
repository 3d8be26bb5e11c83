"""PEP 440 version specifiers, as far as ``requires-python`` uses them."""

from __future__ import annotations

import re
from typing import Final

_CLAUSE: Final = re.compile(r"\s*(~=|===|==|!=|<=|>=|<|>)\s*v?(\d+(?:\.\d+)*)(\.\*)?[a-z0-9.+-]*\s*")


def satisfies(version: str, specifier: str) -> bool:
    """True if ``version`` (``3.11.7``) meets every clause of ``specifier`` (``>=3.10,<4``).

    Pre-release marks are ignored. ValueError if a clause cannot be read. Source: PEP 440, "Version specifiers".
    """
    have = _numbers(re.match(r"\d+(\.\d+)*", version))
    return all(_meets(have, clause) for clause in specifier.split(",") if clause.strip())


def _meets(have: tuple[int, ...], clause: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        raise ValueError(f"{clause.strip()!r} is no version clause")
    operator, want, prefix = match[1], tuple(int(part) for part in match[2].split(".")), match[3] is not None
    width = len(want) if prefix else max(len(have), len(want))
    left, right = _padded(have, width), _padded(want, width)
    if operator == "~=":
        return left >= right and have[: len(want) - 1] == want[:-1]
    if operator in {"==", "==="}:
        return left == right
    if operator == "!=":
        return left != right
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]


def _numbers(match: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def _padded(numbers: tuple[int, ...], width: int) -> tuple[int, ...]:
    return (numbers + (0,) * width)[:width]
