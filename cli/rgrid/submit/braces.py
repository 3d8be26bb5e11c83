"""Brace expansion as in bash: ``{1..100}``, ``{01..10..3}``, ``{a..e}``, ``{train,test}``."""

from __future__ import annotations

import re
from typing import Final

from rgrid_shared.errors import TooLarge

_NUMBERS: Final = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
_LETTERS: Final = re.compile(r"([A-Za-z])\.\.([A-Za-z])")


def expand_braces(text: str, limit: int) -> list[str]:
    """All words that a pattern with braces stands for, in bash's order; ``text`` itself if it has none.

    Raises TooLarge if there are more than ``limit``.
    """
    words = [text]
    done: list[str] = []
    while words:
        word = words.pop()
        group = _first_group(word)
        if group is None:
            done.append(word)
        else:
            start, end, choices = group
            words += [word[:start] + choice + word[end:] for choice in reversed(choices)]
        if len(words) + len(done) > limit:
            raise TooLarge(f"The pattern {text!r} stands for more than {limit:,} names.", hint="Split the batch.")
    return done


def _first_group(word: str) -> tuple[int, int, list[str]] | None:
    start = word.find("{")
    while start != -1:
        end = _closing(word, start)
        if end != -1:
            choices = _choices(word[start + 1 : end])
            if choices is not None:
                return start, end + 1, choices
        start = word.find("{", start + 1)
    return None


def _closing(word: str, start: int) -> int:
    depth = 0
    for index in range(start, len(word)):
        depth += {"{": 1, "}": -1}.get(word[index], 0)
        if depth == 0:
            return index
    return -1


def _choices(inside: str) -> list[str] | None:
    match = _NUMBERS.fullmatch(inside)
    if match:
        first, last, step = match[1], match[2], max(1, int(match[3] or 1))
        padded = any(re.fullmatch(r"-?0\d+", end) for end in (first, last))
        width = max(len(first), len(last)) if padded else 0
        low, high = int(first), int(last)
        span = range(low, high + 1, step) if low <= high else range(low, high - 1, -step)
        if len(span) > 10_000_000:
            return None
        return [f"{number:0{width}d}" for number in span]
    match = _LETTERS.fullmatch(inside)
    if match:
        low, high = ord(match[1]), ord(match[2])
        return [chr(code) for code in (range(low, high + 1) if low <= high else range(low, high - 1, -1))]
    parts = _split(inside)
    return parts if len(parts) > 1 else None


def _split(inside: str) -> list[str]:
    parts, depth, last = [], 0, 0
    for index, char in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append(inside[last:index])
            last = index + 1
    return [*parts, inside[last:]]
