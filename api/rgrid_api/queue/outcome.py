"""How an attempt ended, and what that makes of its execution."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rgrid_shared.protocol import Manifest, StreamTotal, Usage
from rgrid_shared.retries import next_attempt
from rgrid_shared.specs import RetryRule
from rgrid_shared.states import FailureClass, Status

Ref = tuple[str, int]
"""An attempt: execution id and number."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt. ``failure``: None if it succeeded. ``usage`` is None if nobody reported the end."""

    execution_id: str
    attempt: int
    failure: FailureClass | None
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    started_at: datetime | None = None
    usage: Usage | None = None
    manifest: Manifest | None = None
    streams: list[StreamTotal] | None = None
    layer: str = ""
    output_files: int = 0
    output_bytes: int = 0

    @property
    def ref(self) -> Ref:
        """The attempt that it speaks of."""
        return self.execution_id, self.attempt


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an attempt before it ends.

    ``reported``: its runner has reported its end before. ``counted``: its batch goes on or stops by how its items
    end (``--max-fails``, ``--canary``). ``now``: the database's clock.
    """

    runner_id: str
    live: bool
    reported: bool
    log_seq: int
    batch_id: str
    project_id: str
    user_retries: int
    infra_retries: int
    retry: RetryRule
    counted: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Transition:
    """Where the execution goes: final, or pending again from ``not_before`` on, on the counter that it names."""

    status: Status
    not_before: datetime | None = None
    transient: bool = False


def decide(failure: FailureClass | None, standing: Standing, jitter: float) -> Transition:
    """What becomes of an execution whose attempt ended with ``failure``. ``jitter`` is uniform in [0, 1)."""
    if failure is None:
        return Transition(Status.SUCCEEDED)
    retry = next_attempt(
        failure,
        now=standing.now,
        rule=standing.retry,
        user_retries=standing.user_retries,
        infra_retries=standing.infra_retries,
        jitter=jitter,
    )
    if retry is None:
        return Transition(failure.rule.status)
    return Transition(Status.PENDING, not_before=retry.not_before, transient=retry.transient)
