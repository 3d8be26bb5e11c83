"""Who is told how a transfer goes."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how many bytes are through; a negative count takes a failed try back."""

    def add(self, count: int) -> None:
        """``count`` more bytes."""


class Silent:
    """Tells nobody."""

    def add(self, count: int) -> None:
        """Nothing."""
