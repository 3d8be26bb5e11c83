"""Names in directories, each directory read once."""

from __future__ import annotations

import os


class Listings:
    """What directories hold, as it was when each was first asked for."""

    def __init__(self) -> None:
        self._known: dict[str, frozenset[str]] = {}

    def of(self, folder: str) -> frozenset[str]:
        """The names in ``folder``; none if it cannot be read."""
        known = self._known.get(folder)
        if known is None:
            try:
                known = frozenset(os.listdir(folder))
            except OSError:
                known = frozenset()
            self._known[folder] = known
        return known
