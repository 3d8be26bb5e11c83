"""What GPUs did for an execution."""

from __future__ import annotations

import asyncio

import pytest
from support.nvml import Recorded, recorded

from rgrid_runner.nvml import Nvml
from rgrid_runner.usage import EVERY_S, GpuUse, Meter


async def test_the_mean_and_the_peak() -> None:
    """Utilisation is the mean of the looks, memory the most that any look saw."""
    host = recorded("one")
    gpus = host.found()  # which reads the first recorded memory
    meter = Meter(host)
    meter.begin("a.1", gpus)
    for _ in range(3):
        await meter.run_once()
    assert meter.end("a.1") == GpuUse(percent=64, memory=20401094656)
    assert meter.end("a.1") == GpuUse()


async def test_several_gpus_are_taken_together() -> None:
    """Of two GPUs the mean is over both and memory their sum; one that cannot be asked counts for nothing."""
    host = recorded("mixed")
    meter = Meter(host)
    meter.begin("a.1", [gpu for gpu in host.found() if gpu["index"] in {0, 2}])
    meter.begin("b.1", [{"index": 3, "model": "", "memory": 0, "uuid": "GPU-74000000-0000-4000-8000-000000000003"}])
    await meter.run_once()
    assert meter.end("a.1") == GpuUse(percent=40, memory=465764352)
    assert meter.end("b.1") == GpuUse()


async def test_nothing_is_asked_while_nothing_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop sleeps until an execution has a GPU, looks while it has, and sleeps again."""
    naps: list[float] = []
    yielding = asyncio.sleep

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await yielding(0)

    monkeypatch.setattr("rgrid_runner.usage.asyncio.sleep", nap)
    library = Recorded("one")
    host = Nvml(library)
    gpus = host.found()
    meter = Meter(host)
    loop = asyncio.create_task(meter.run())
    meter.begin("none", [])
    await meter.run_once()
    assert library.asked == 0
    meter.begin("a.1", gpus)
    async with asyncio.timeout(10):
        while library.asked < 3:
            await yielding(0)
    assert meter.end("a.1").percent > 0
    before = list(naps)
    assert set(before) == {EVERY_S}
    for _ in range(100):
        await yielding(0)
    assert naps == before
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_a_host_without_gpus_measures_nothing() -> None:
    """Without the library nothing is begun."""
    meter = Meter(None)
    meter.begin("a.1", recorded("one").found())
    await meter.run_once()
    assert meter.end("a.1") == GpuUse()
