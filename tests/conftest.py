"""Registers what all tests share; see ``tests/support``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rgrid import output

pytest_plugins = [
    "support.completeness",
    "support.engine",
    "support.postgres",
    "support.s3",
    "support.control_plane",
    "support.queue_grid",
    "support.grid",
    "support.ward",
]


@pytest.fixture(autouse=True)
def _plain_output() -> Iterator[None]:
    """Commands that a test runs in its own process leave no output mode behind."""
    yield
    output.mode.json = output.mode.quiet = False
