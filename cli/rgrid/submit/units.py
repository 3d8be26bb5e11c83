"""Sizes, durations and resources as people type them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from rgrid.times import seconds_of
from rgrid_shared.errors import UsageError

MAX_DURATION_S: Final = 366 * 86_400

_SIZES: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtp", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgtp", start=1)},
    **{letter: 1024**power for power, letter in enumerate("kmgtp", start=1)},
}
"""``GB`` is 1000³ (SI), ``GiB`` and the bare letter ``G`` are 1024³ (IEC 80000-13; the letter as Docker reads it)."""

_NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z]*)")


def parse_size(text: str, option: str) -> int:
    """Bytes in ``16GB``, ``512MiB``, ``2G`` or a bare number of bytes; raises UsageError naming ``option``."""
    match = _NUMBER.fullmatch(text.strip())
    unit = _SIZES.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise UsageError(f"{option} {text!r} is not a size.", hint=f"Write it like {option} 16GB or {option} 512MiB.")
    size = round(float(match[1]) * unit)
    if not 0 < size <= 2**53:
        raise UsageError(f"{option} {text!r} is out of range.", hint=f"Write it like {option} 16GB.")
    return size


def parse_duration(text: str, option: str) -> float:
    """Seconds in ``90s``, ``1h30m``, ``2d`` or a bare number of seconds; raises UsageError naming ``option``."""
    try:
        seconds = seconds_of(text)
    except UsageError as error:
        raise UsageError(
            f"{option} {text!r} is not a duration.", hint=f"Write it like {option} 90s or 1h30m or 2d."
        ) from error
    if not 0.001 <= seconds <= MAX_DURATION_S:
        raise UsageError(f"{option} {text!r} is out of range.", hint="From 1 ms to a year; leave it out for no limit.")
    return seconds


def parse_cpu(text: str) -> int:
    """Thousandths of a core in ``2``, ``0.5`` or ``500m``; raises UsageError."""
    word = text.strip().lower()
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)(m?)", word)
    millis = round(float(match[1]) * (1 if match[2] else 1000)) if match else 0
    if not 0 < millis <= 10_000_000:
        raise UsageError(f"--cpu {text!r} is not a number of cores.", hint="Write it like --cpu 2 or --cpu 0.5.")
    return millis


def parse_gpu(text: str) -> tuple[str, int]:
    """Model and count in ``A100:2``, ``A100`` or ``2`` (any model: an empty name); raises UsageError."""
    model, colon, number = text.strip().rpartition(":")
    if not colon:
        model, number = ("", text.strip()) if text.strip().isdigit() else (text.strip(), "1")
    if (
        not number.isdigit()
        or not 1 <= int(number) <= 1024
        or not (model or number == text.strip())
        or len(model) > 100
    ):
        raise UsageError(f"--gpu {text!r} is not a GPU.", hint="Write it like --gpu 1, --gpu A100 or --gpu A100:2.")
    return ("" if model.lower() == "any" else model), int(number)


def parse_pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """``["a=b", "c=d"]`` as a dict; raises UsageError for a pair without ``=`` or with an empty key."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{option} {text!r} is not KEY=VALUE.", hint=f"Write it like {option} team=vision.")
        if len(key) > 100 or len(value) > 500:
            raise UsageError(f"{option} {key[:40]}… is too long.", hint="At most 100 characters = 500 characters.")
        pairs[key.strip()] = value
    return pairs


def show_count(count: int, one: str, many: str = "") -> str:
    """``1 file``, ``12,000 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
