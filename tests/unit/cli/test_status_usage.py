"""What ``rgrid status`` tells of an execution's usage."""

from __future__ import annotations

import pytest

from rgrid.commands.status import used
from rgrid_shared.protocol import Usage

LEAST: Usage = {"wall_ms": 1500, "cpu_ms": 1200, "max_rss": 512 << 20, "prepare_ms": 1, "deliver_ms": 1}


@pytest.mark.parametrize(
    ("usage", "lines"),
    [
        (None, {}),
        (LEAST, {"CPU time": "1.2 s", "Memory": "512 MiB at most", "Disk": "", "GPU": ""}),
        (
            {**LEAST, "read_bytes": 3 << 30, "written_bytes": 0, "gpu_percent": 64, "gpu_memory": 19 << 30},
            {
                "CPU time": "1.2 s",
                "Memory": "512 MiB at most",
                "Disk": "3.0 GiB read, 0 B written",
                "GPU": "64 % busy, 19 GiB at most",
            },
        ),
    ],
)
def test_what_was_measured_is_shown(usage: Usage | None, lines: dict[str, str]) -> None:
    """Peak memory, processor, disk and GPU in a line each; what was not measured, or not used, is not there."""
    assert dict(used(usage)) == lines
