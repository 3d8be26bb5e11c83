"""Why an execution stands where it stands: one sentence, from facts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rgrid_shared.states import FailureClass, Phase, Status


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides the sentence. Times are aware UTC; ``hold`` says why no runner takes it, or is empty."""

    status: Status
    phase: str
    attempt: int
    failure: FailureClass | None
    exit_code: int | None
    runner: str
    not_before: datetime | None
    cancel_requested: bool
    retries: int
    sealed: bool
    paused: bool
    parallel: int | None
    canary: int | None
    index: int
    hold: str = ""


def why(facts: Facts, now: datetime) -> str:
    """One sentence for people."""
    if facts.status.final:
        return _ended(facts)
    if facts.status is Status.RUNNING:
        return _running(facts)
    if facts.status is Status.QUEUED:
        return facts.hold or facts.status.sentence
    if facts.status is Status.PENDING:
        return _pending(facts, now)
    return facts.status.sentence


def _ended(facts: Facts) -> str:
    if facts.failure is None:
        return facts.status.sentence
    if facts.failure is FailureClass.SCRIPT and facts.exit_code is not None:
        return f"The script exited with {facts.exit_code}."
    sentence = facts.failure.rule.sentence
    if facts.failure.rule.transient and facts.attempt > 1:
        return f"{sentence} It was tried {facts.attempt} times."
    return sentence


def _running(facts: Facts) -> str:
    where = f" on {facts.runner}" if facts.runner else ""
    if facts.cancel_requested:
        return f"Being stopped{where}: it was cancelled."
    if facts.phase == Phase.PREPARING:
        return f"Being prepared{where}: its files and requirements are brought in place."
    if facts.phase == Phase.DELIVERING:
        return f"The script has ended{where}; its outputs are being stored."
    return f"Running{where}."


def _pending(facts: Facts, now: datetime) -> str:
    if not facts.sealed:
        return "Waits for the rest of the batch to be submitted."
    if facts.paused:
        return "Held back: the batch is paused."
    if facts.not_before is not None and facts.not_before > now:
        seconds = max(1, round((facts.not_before - now).total_seconds()))
        again = "Tried again" if facts.retries else "Starts"
        return f"{again} in {seconds} s."
    if facts.canary is not None and facts.index >= facts.canary:
        return f"Held back until the first {facts.canary} items have succeeded."
    if facts.parallel is not None:
        return f"Held back: {facts.parallel} of this batch may run at once."
    return facts.hold or "Next in line within its batch."
