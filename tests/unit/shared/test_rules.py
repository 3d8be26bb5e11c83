"""Errors, paths, layer keys and retries: the pure rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid_shared import errors, layer_keys, retries
from rgrid_shared.specs import RetryRule
from rgrid_shared.states import FAILURE_RULES, FINAL, TRANSITIONS, FailureClass, Status, may_become
from rgrid_shared.wire import path_problem

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RgridError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_wire(kind: type[errors.RgridError]) -> None:
    """A problem document becomes the same class, message and hint again."""
    back = errors.from_problem(kind("what", hint="do this").problem())
    assert (type(back), back.message, back.hint) == (kind, "what", "do this")


def test_error_codes_are_unique() -> None:
    """No two errors share a code, so a client can tell them apart."""
    assert len({kind.code for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("path", ["a", "a/b", "-x", "ü/ñ", "new\nline", "..a", "a..", ".hidden", "a b"])
def test_ordinary_paths_pass(path: str) -> None:
    """Any name that a file system allows may travel."""
    assert path_problem(path) is None


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a//b", "./a", "a/.", "a\0b", "x" * 256, "\udcff"])
def test_paths_that_could_escape_are_refused(path: str) -> None:
    """Nothing that climbs, is absolute, holds NUL or is not UTF-8 is taken."""
    assert path_problem(path)


@given(st.lists(st.tuples(st.text(), st.text())), st.lists(st.tuples(st.text(), st.text())))
def test_digests_are_delimited(one: list[tuple[str, str]], two: list[tuple[str, str]]) -> None:
    """Different lists of fields never share a digest by running into each other."""
    assert (layer_keys.digest(one) == layer_keys.digest(two)) == (one == two)


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded(nth: int, jitter: float) -> None:
    """The first retry is immediate; none waits longer than the cap."""
    wait = retries.backoff_s(nth, jitter)
    assert 0 <= wait <= retries.CAP_S
    assert nth > 1 or wait == 0


@pytest.mark.parametrize("failure", list(FailureClass))
def test_only_the_grids_own_faults_are_retried_unasked(failure: FailureClass) -> None:
    """Without a user's wish, an attempt is repeated exactly when the fault was the grid's."""
    rule: RetryRule = {"retries": 0, "on": []}
    decided = retries.next_attempt(failure, now=NOW, rule=rule, user_retries=0, infra_retries=0, jitter=0.5)
    assert (decided is not None) == failure.rule.transient


@pytest.mark.parametrize(
    ("on", "failure", "again"),
    [
        ([], FailureClass.SCRIPT, True),
        ([], FailureClass.OOM, False),
        (["oom"], FailureClass.OOM, True),
        (["oom"], FailureClass.SCRIPT, False),
        (["cancelled"], FailureClass.CANCELLED, False),
    ],
)
def test_a_users_retries_follow_their_list(on: list[str], failure: FailureClass, again: bool) -> None:
    """``--retries`` repeats script failures, or just the classes that ``--retry-on`` names."""
    rule: RetryRule = {"retries": 2, "on": on}
    decided = retries.next_attempt(failure, now=NOW, rule=rule, user_retries=1, infra_retries=0, jitter=0.0)
    assert (decided is not None) == again
    spent = retries.next_attempt(failure, now=NOW, rule=rule, user_retries=2, infra_retries=0, jitter=0.0)
    assert spent is None


def test_infrastructure_retries_end() -> None:
    """The grid gives up after its own limit, so a poisoned execution ends."""
    rule: RetryRule = {"retries": 9, "on": []}
    spent = retries.next_attempt(
        FailureClass.RUNNER_LOST,
        now=NOW,
        rule=rule,
        user_retries=0,
        infra_retries=retries.MAX_INFRA_RETRIES,
        jitter=0.9,
    )
    assert spent is None


def test_a_retry_is_never_in_the_past() -> None:
    """``not_before`` is now or later."""
    rule: RetryRule = {"retries": 0, "on": []}
    for done in range(retries.MAX_INFRA_RETRIES):
        again = retries.next_attempt(
            FailureClass.RUNNER_LOST, now=NOW, rule=rule, user_retries=0, infra_retries=done, jitter=0.7
        )
        assert again and NOW <= again.not_before <= NOW + timedelta(seconds=retries.CAP_S)


def test_final_statuses_lead_nowhere() -> None:
    """A final status has no transition out of it, and every other one can reach a final one."""
    for status, targets in TRANSITIONS.items():
        assert (not targets) == (status in FINAL) == status.final
        assert all(may_become(status, target) for target in targets)
        assert status.sentence
    reached: set[Status] = set()
    frontier = {Status.BLOCKED}
    while frontier:
        reached |= frontier
        frontier = {target for status in frontier for target in TRANSITIONS[status]} - reached
    assert reached == set(Status)


def test_every_failure_class_has_a_rule() -> None:
    """Each class says which final status it means and how people read it."""
    assert set(FAILURE_RULES) == set(FailureClass)
    assert all(rule.status in FINAL and rule.sentence for rule in FAILURE_RULES.values())
