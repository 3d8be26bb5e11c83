"""The exit code that the user sees."""

from __future__ import annotations

from typing import Any, cast

import pytest

from rgrid.follow.ending import exit_code, trouble
from rgrid_shared.states import FailureClass, Status
from rgrid_shared.views import ExecutionView


def ended(status: Status, failure: FailureClass | None = None, code: int | None = None) -> ExecutionView:
    view: dict[str, Any] = {"status": status, "failure": failure, "exit_code": code, "message": "said so"}
    return cast("ExecutionView", view)


@pytest.mark.parametrize(
    ("status", "failure", "code", "seen"),
    [
        (Status.SUCCEEDED, None, 0, 0),
        (Status.FAILED, FailureClass.SCRIPT, 3, 3),
        (Status.FAILED, FailureClass.SCRIPT, 139, 139),
        (Status.FAILED, FailureClass.SCRIPT, None, 1),
        (Status.TIMED_OUT, FailureClass.TIMEOUT, 143, 124),
        (Status.FAILED, FailureClass.OOM, 137, 137),
        (Status.FAILED, FailureClass.INFRASTRUCTURE, 0, 125),
        (Status.FAILED, FailureClass.DEPENDENCIES, None, 125),
        (Status.FAILED, FailureClass.RUNNER_LOST, None, 125),
        (Status.CANCELLED, FailureClass.CANCELLED, 143, 130),
        (Status.CANCELLED, None, None, 130),
        (Status.SKIPPED, None, None, 125),
    ],
)
def test_exit_codes(status: Status, failure: FailureClass | None, code: int | None, seen: int) -> None:
    """The script's own code if it failed by itself; else one that says what befell it; 0 only for success."""
    assert exit_code(ended(status, failure, code)) == seen


@pytest.mark.parametrize("failure", list(FailureClass))
def test_no_failure_exits_with_zero(failure: FailureClass) -> None:
    """Whatever failed, and whatever code it left, the command does not claim success."""
    for code in (0, None):
        assert exit_code(ended(failure.rule.status, failure, code)) != 0


def test_the_script_speaks_for_itself() -> None:
    """A failed script has printed its traceback; rgrid adds words only to what the script could not know."""
    assert trouble(ended(Status.FAILED, FailureClass.SCRIPT, 1)) == ""
    assert "time limit" in trouble(ended(Status.TIMED_OUT, FailureClass.TIMEOUT))
