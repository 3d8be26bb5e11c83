"""What a runner has left to offer."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rgrid_runner.capacity import free, minus
from rgrid_shared.protocol import Capacity, HostResources
from rgrid_shared.specs import NO_RESOURCES

SLOTS = st.lists(st.integers(0, 3), max_size=8)
HOST: HostResources = {"cpu_millis": 4000, "memory": 100, "disk": 100, "gpus": []}


def offer(gpus: list[int]) -> Capacity:
    return {"slots": 1, "cpu_millis": 1, "memory": 1, "disk": 1, "gpus": gpus}


def test_what_runs_is_subtracted() -> None:
    """Each execution takes a slot and what it asked for; nothing falls below zero; GPUs are as the host says."""
    running = [{**NO_RESOURCES, "cpu_millis": 3000, "memory": 60}, {**NO_RESOURCES, "cpu_millis": 3000, "disk": 200}]
    left = free(4, HOST, 150, running, [1, 1, 2])  # type: ignore[arg-type]
    assert left == {"slots": 2, "cpu_millis": 0, "memory": 40, "disk": 0, "gpus": [1, 1, 2]}


@given(whole=SLOTS, part=SLOTS)
def test_no_gpu_is_offered_twice(whole: list[int], part: list[int]) -> None:
    """What one request offers is not in the next, slot by slot."""
    left = minus(offer(whole), offer(part))["gpus"]
    assert all(Counter(left)[index] == max(0, count - Counter(part)[index]) for index, count in Counter(whole).items())
    assert set(left) <= set(whole)
