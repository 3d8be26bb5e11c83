"""How long a lease lasts and how often things are looked at."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds.

    ``lease_s``: how long an attempt stays its runner's after the last poll that listed it. ``poll_s``: how often a
    runner polls. ``fence_s``: when a runner without an answer freezes its work, well before the lease ends.
    ``gap_s``: a sweeper silent for longer than this trusts no lease until a whole one has passed.
    """

    lease_s: float = 40.0
    poll_s: float = 10.0
    fence_s: float = 25.0
    sweep_s: float = 5.0
    gap_s: float = 10.0
    promote_s: float = 1.0
    recheck_s: float = 5.0

    @classmethod
    def scaled(cls, factor: float) -> Self:
        """The usual times multiplied by ``factor``."""
        return cls(**{field.name: float(field.default) * factor for field in fields(cls)})  # type: ignore[arg-type]
