"""When a failed attempt is followed by another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rgrid_shared.specs import RetryRule
from rgrid_shared.states import FailureClass

MAX_INFRA_RETRIES: Final = 5
BASE_S: Final = 2.0
CAP_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at ``not_before`` (UTC); ``transient`` says which counter it uses up."""

    not_before: datetime
    transient: bool


def backoff_s(nth: int, jitter: float) -> float:
    """Seconds before retry number ``nth`` (from 1): the first at once, then exponential with full jitter.

    ``jitter`` is uniform in [0, 1). Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if nth <= 1:
        return 0.0
    return jitter * min(CAP_S, BASE_S * 2.0 ** min(nth - 1, 30))


def next_attempt(
    failure: FailureClass,
    *,
    now: datetime,
    rule: RetryRule,
    user_retries: int,
    infra_retries: int,
    jitter: float,
) -> Retry | None:
    """Decide on another attempt after ``failure``; None ends the execution.

    ``user_retries`` and ``infra_retries`` count the retries already made on each counter.
    """
    if failure.rule.transient:
        if infra_retries >= MAX_INFRA_RETRIES:
            return None
        return Retry(now + timedelta(seconds=backoff_s(infra_retries + 1, jitter)), transient=True)
    if not failure.rule.user_may_retry or user_retries >= rule["retries"]:
        return None
    if failure.value not in (rule["on"] or [FailureClass.SCRIPT.value]):
        return None
    return Retry(now + timedelta(seconds=backoff_s(user_retries + 1, jitter)), transient=False)
