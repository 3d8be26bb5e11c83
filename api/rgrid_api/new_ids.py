"""New identifiers: the clock and the randomness that ``rgrid_shared.ids`` leaves to its callers."""

from __future__ import annotations

import secrets
import time

from rgrid_shared.ids import Kind, make


def new_id(kind: Kind) -> str:
    """A new id of this kind, made of now and 50 random bits."""
    return make(kind, time.time_ns() // 1_000_000, secrets.randbits(50))


def new_ids(kind: Kind, count: int) -> list[str]:
    """``count`` new ids in ascending order: the executions of a batch sort by age as their items do."""
    now_ms = time.time_ns() // 1_000_000
    entropy: set[int] = set()
    while len(entropy) < count:
        entropy.add(secrets.randbits(50))
    return [make(kind, now_ms, bits) for bits in sorted(entropy)]
