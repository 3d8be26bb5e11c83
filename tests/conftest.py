"""Registers what all tests share; see ``tests/support``."""

from __future__ import annotations

pytest_plugins = [
    "support.completeness",
    "support.postgres",
    "support.s3",
    "support.control_plane",
    "support.queue_grid",
    "support.grid",
]
