"""How an execution ended: the exit code of the command and the words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rgrid_shared.states import FailureClass, Status

if TYPE_CHECKING:
    from rgrid_shared.views import ExecutionView


def exit_code(view: ExecutionView) -> int:
    """The code that ``rgrid run`` exits with: the script's own if it failed by itself, else the failure's.

    Never 0 unless the execution succeeded.
    """
    status = Status(view["status"])
    if status is Status.SUCCEEDED:
        return 0
    if status is Status.CANCELLED:
        return FailureClass.CANCELLED.rule.exit_code
    if status is Status.TIMED_OUT:
        return FailureClass.TIMEOUT.rule.exit_code
    failure = _failure(view)
    if failure is FailureClass.SCRIPT or failure is None:
        return view["exit_code"] or (failure.rule.exit_code if failure else 125)
    return failure.rule.exit_code


def trouble(view: ExecutionView) -> str:
    """What to tell the user about an end that the script's own output does not explain; empty if it does."""
    failure = _failure(view)
    status = Status(view["status"])
    if status is Status.SUCCEEDED or failure is FailureClass.SCRIPT:
        return ""
    sentence = failure.rule.sentence if failure else status.sentence
    detail = view["message"].strip()
    return f"{sentence} {detail}" if detail and detail not in sentence else sentence


def _failure(view: ExecutionView) -> FailureClass | None:
    try:
        return FailureClass(view["failure"]) if view["failure"] else None
    except ValueError:
        return None
