"""What an attempt reports of its script."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from rgrid_runner.backends.base import Exit
from rgrid_runner.outcome import EMPTY_MANIFEST, ended_report
from rgrid_runner.usage import GpuUse

NOW = datetime(2026, 1, 2, tzinfo=UTC)
END = Exit(
    exit_code=0,
    signal=None,
    failure=None,
    message="",
    started_at=NOW,
    ended_at=NOW,
    wall_ms=5,
    cpu_ms=4,
    max_rss=3,
    streams=(),
    last_seq=0,
    stderr_tail="",
)


def test_usage_is_reported_whole() -> None:
    """What the backend measured and what the GPUs did reach the API; without GPUs theirs is nothing."""
    end = replace(END, read_bytes=10, written_bytes=20)
    report = ended_report(
        "exe_1", 1, end, EMPTY_MANIFEST, last_seq=0, prepare_ms=7, deliver_ms=8, layer="", gpu_use=GpuUse(30, 40)
    )
    assert report["usage"] == {
        "wall_ms": 5,
        "cpu_ms": 4,
        "max_rss": 3,
        "prepare_ms": 7,
        "deliver_ms": 8,
        "read_bytes": 10,
        "written_bytes": 20,
        "gpu_percent": 30,
        "gpu_memory": 40,
    }
    plain = ended_report("exe_1", 1, END, EMPTY_MANIFEST, last_seq=0, prepare_ms=7, deliver_ms=8, layer="")
    assert (plain["usage"]["gpu_percent"], plain["usage"]["gpu_memory"]) == (0, 0)
