"""Statuses, phases and failure classes: the one place that spells them.

An execution moves along ``TRANSITIONS`` and ends in exactly one of ``FINAL``. SQL files may name statuses;
``tests/unit/shared/test_states.py`` compares them with this enum.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where an execution stands."""

    BLOCKED = "blocked"
    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def final(self) -> bool:
        """True for a status that never changes again."""
        return self in FINAL

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        return SENTENCES[self]


FINAL: Final = frozenset({Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.SKIPPED})

SENTENCES: Final[dict[Status, str]] = {
    Status.BLOCKED: "Waits for executions that it needs.",
    Status.PENDING: "Held back: by its start time, the batch's parallel limit, a pause or a retry delay.",
    Status.QUEUED: "Ready; starts on the next runner with room for it.",
    Status.RUNNING: "On a runner: preparing, running or delivering its outputs.",
    Status.SUCCEEDED: "The script exited with 0 and its outputs are stored.",
    Status.FAILED: "The script failed, or the grid could not run it.",
    Status.TIMED_OUT: "The script ran into its time limit and was stopped.",
    Status.CANCELLED: "Cancelled before it could end by itself.",
    Status.SKIPPED: "Never ran: something that it needs failed.",
}

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    Status.BLOCKED: frozenset({Status.PENDING, Status.CANCELLED, Status.SKIPPED}),
    Status.PENDING: frozenset({Status.QUEUED, Status.CANCELLED, Status.SKIPPED}),
    Status.QUEUED: frozenset({Status.RUNNING, Status.PENDING, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.PENDING}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.TIMED_OUT: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.SKIPPED: frozenset(),
}
"""``running → pending`` is a retry: the attempt ended, the execution goes on."""


def may_become(old: Status, new: Status) -> bool:
    """True if ``old → new`` is a legal transition."""
    return new in TRANSITIONS[old]


class Phase(StrEnum):
    """What a live attempt is doing."""

    PREPARING = "preparing"
    RUNNING = "running"
    DELIVERING = "delivering"


class Stream(StrEnum):
    """Which of the script's streams a log chunk came from; ``SYSTEM`` is rgrid speaking."""

    STDOUT = "stdout"
    STDERR = "stderr"
    SYSTEM = "system"


class FailureClass(StrEnum):
    """Why an attempt did not succeed."""

    SCRIPT = "script"
    TIMEOUT = "timeout"
    OOM = "oom"
    DISK = "disk"
    DEPENDENCIES = "dependencies"
    INPUT = "input"
    RUNNER_LOST = "runner_lost"
    PREEMPTED = "preempted"
    INFRASTRUCTURE = "infrastructure"
    CANCELLED = "cancelled"

    @property
    def rule(self) -> FailureRule:
        """What this class means."""
        return FAILURE_RULES[self]


@dataclass(frozen=True, slots=True)
class FailureRule:
    """What a failure class means for status, retry and bill.

    ``transient``: retried by the grid itself on its own counter and not billed to the user.
    ``user_may_retry``: ``--retries N --retry-on CLASS`` may name it.
    ``exit_code``: what ``rgrid run`` exits with when the script left no code of its own.
    """

    status: Status
    transient: bool
    user_may_retry: bool
    exit_code: int
    sentence: str


FAILURE_RULES: Final[dict[FailureClass, FailureRule]] = {
    FailureClass.SCRIPT: FailureRule(Status.FAILED, False, True, 1, "The script failed."),
    FailureClass.TIMEOUT: FailureRule(Status.TIMED_OUT, False, True, 124, "The time limit was reached."),
    FailureClass.OOM: FailureRule(Status.FAILED, False, True, 137, "The memory limit was reached."),
    FailureClass.DISK: FailureRule(Status.FAILED, False, True, 125, "The disk limit was reached."),
    FailureClass.DEPENDENCIES: FailureRule(Status.FAILED, False, False, 125, "A requirement cannot be installed."),
    FailureClass.INPUT: FailureRule(
        Status.FAILED, False, False, 125, "An input is missing from the store or its bytes are wrong."
    ),
    FailureClass.RUNNER_LOST: FailureRule(Status.FAILED, True, False, 125, "The runner went away while it ran."),
    FailureClass.PREEMPTED: FailureRule(Status.FAILED, True, False, 125, "The host was taken back."),
    FailureClass.INFRASTRUCTURE: FailureRule(Status.FAILED, True, False, 125, "The grid had a fault of its own."),
    FailureClass.CANCELLED: FailureRule(Status.CANCELLED, False, False, 130, "It was cancelled."),
}
