"""What a runner has left to offer. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rgrid_shared.protocol import Capacity, HostResources
from rgrid_shared.specs import Resources


def free(
    slots: int, host: HostResources, disk: int, running: Iterable[Resources], gpus: Sequence[int] = ()
) -> Capacity:
    """What is left beside ``running``.

    ``disk``: bytes that may still be written now. ``gpus``: the index of each that is free, once for each execution
    that it takes; who has one is not counted here, it may have ended before its outputs are delivered.
    """
    taken = list(running)
    return {
        "slots": max(0, slots - len(taken)),
        "cpu_millis": max(0, host["cpu_millis"] - sum(each["cpu_millis"] for each in taken)),
        "memory": max(0, host["memory"] - sum(each["memory"] for each in taken)),
        "disk": max(0, disk - sum(each["disk"] for each in taken)),
        "gpus": list(gpus),
    }


def minus(whole: Capacity, part: Capacity) -> Capacity:
    """``whole`` without ``part``, nothing below 0."""
    return {
        "slots": max(0, whole["slots"] - part["slots"]),
        "cpu_millis": max(0, whole["cpu_millis"] - part["cpu_millis"]),
        "memory": max(0, whole["memory"] - part["memory"]),
        "disk": max(0, whole["disk"] - part["disk"]),
        "gpus": sorted((Counter(whole["gpus"]) - Counter(part["gpus"])).elements()),
    }
