"""The embedded grid: PostgreSQL, an S3 server, the control plane and one runner, below ``~/.rgrid/local``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rgrid.config import Server

__all__ = ["ensure"]


def ensure(home: Path, say: Callable[[str], None]) -> Server:
    """The embedded grid below ``home``, started if it does not run (``rgrid.local.find.ensure``)."""
    from rgrid.local import find

    return find.ensure(home, say)
