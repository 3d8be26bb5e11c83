"""Waiting for something to become true, with a deadline and never a fixed pause."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(check: Callable[[], T | None], *, seconds: float = 20.0, what: str = "the condition") -> T:
    """The first truthy answer of ``check``, asked every few milliseconds; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        select.select([], [], [], 0.01)
