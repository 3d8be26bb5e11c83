"""Rules of the queue that need no database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid_api.db.named_sql import parse, statements
from rgrid_api.queue.claiming import Needs
from rgrid_api.queue.outcome import Standing, decide
from rgrid_api.queue.sweeper import Patience
from rgrid_api.queue.timing import Timing
from rgrid_api.runners.manifests import files_in, manifest_problem
from rgrid_shared.protocol import Capacity, Gpu, HostResources
from rgrid_shared.specs import NO_RESOURCES, Resources
from rgrid_shared.states import FailureClass, Status, may_become

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def standing(*, user_retries: int = 0, infra_retries: int = 0, allowed: int = 0) -> Standing:
    """A live attempt of a batch with ``--retries allowed``."""
    return Standing(
        runner_id="rnr_1",
        live=True,
        reported=False,
        log_seq=0,
        batch_id="bat_1",
        project_id="prj_1",
        user_retries=user_retries,
        infra_retries=infra_retries,
        retry={"retries": allowed, "on": []},
        counted=False,
        now=NOW,
    )


@given(
    failure=st.none() | st.sampled_from(FailureClass),
    user=st.integers(0, 5),
    infra=st.integers(0, 10),
    allowed=st.integers(0, 5),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_every_end_is_a_legal_transition(
    failure: FailureClass | None, user: int, infra: int, allowed: int, jitter: float
) -> None:
    """Whatever an attempt came to, its execution goes where a running one may; only retries come later."""
    made = decide(failure, standing(user_retries=user, infra_retries=infra, allowed=allowed), jitter)
    assert may_become(Status.RUNNING, made.status)
    assert (made.not_before is not None) == (made.status is Status.PENDING)
    assert made.not_before is None or made.not_before >= NOW
    assert made.transient <= (failure is not None and failure.rule.transient)


def test_a_fresh_sweeper_waits_a_lease() -> None:
    """A sweeper that just started cannot know who was able to renew."""
    patience, timing = Patience(Timing()), Timing()
    trusted = [now for now in range(0, 100, 5) if patience.trusts(now, "db")]
    assert trusted[0] == timing.lease_s


@pytest.mark.parametrize(("gap_s", "database"), [(60, "db"), (5, "restarted")])
def test_a_gap_is_waited_out(gap_s: float, database: str) -> None:
    """After the machine slept or the database restarted, no attempt is given up for one whole lease."""
    patience, timing = Patience(Timing()), Timing()
    now = 0.0
    for _ in range(20):
        now += 5
        before = patience.trusts(now, "db")
    assert before
    back = now + gap_s
    assert not patience.trusts(back, database)
    later = back
    while later + 5 < back + timing.lease_s:
        later += 5
        assert not patience.trusts(later, database)
    assert patience.trusts(later + 5, database)


def test_times_scale_together() -> None:
    """A fence always comes well before its lease ends, at any scale."""
    for scale in (0.01, 0.5, 1.0, 3.0):
        timing = Timing.scaled(scale)
        assert timing.poll_s < timing.fence_s < timing.lease_s
    assert Timing.scaled(1.0) == Timing()


EMPTY: HostResources = {"cpu_millis": 0, "memory": 0, "disk": 0, "gpus": []}
MIXED: HostResources = {
    **EMPTY,
    "gpus": [
        {"index": 0, "model": "A100", "memory": 40},
        *(Gpu(index=n, model="T4", memory=16) for n in (1, 2, 3)),
    ],
}


@given(
    need=st.integers(0, 10_000),
    left=st.integers(0, 10_000),
    which=st.sampled_from(["cpu_millis", "memory", "disk"]),
    slots=st.integers(0, 50),
)
def test_as_many_are_offered_as_fit(need: int, left: int, which: str, slots: int) -> None:
    """Neither slots nor a resource are exceeded, one more would not fit, and no need takes nothing."""
    wanted = Needs("s", "python3.11", cast("Resources", {**NO_RESOURCES, which: need}))
    room = cast("Capacity", {"slots": slots, "cpu_millis": 0, "memory": 0, "disk": 0, "gpus": [], which: left})
    most = wanted.at_once(room, EMPTY)
    assert most <= slots
    assert most * need <= left
    assert most == slots or (most + 1) * need > left


@pytest.mark.parametrize(
    ("changes", "free", "most"),
    [
        ({"gpus": 1}, [0, 1, 2, 3], 4),
        ({"gpu_model": "T4"}, [0, 1, 3], 2),
        ({"gpu_model": "A100"}, [1, 2, 3], 0),
        ({"gpu_memory": 17}, [0, 1, 2, 3], 1),
        ({"gpus": 2}, [1, 1], 0),
        ({"gpus": 2}, [0, 0, 1, 1, 2], 2),
        ({"gpus": 1}, [7], 0),
    ],
)
def test_only_fitting_gpus_count(changes: dict[str, object], free: list[int], most: int) -> None:
    """On a host with several models those count that serve the need; two GPUs are two, however often one is shared."""
    wanted = Needs("s", "r", cast("Resources", {**NO_RESOURCES, **changes}))
    room: Capacity = {"slots": 9, "cpu_millis": 0, "memory": 0, "disk": 0, "gpus": free}
    assert wanted.at_once(room, MIXED) == most


def test_statements_are_found_by_name() -> None:
    """A file's statements are told apart by their name lines; comments and semicolons do no harm."""
    assert parse("-- about\n-- name: one\nSELECT 1;\n\n-- name: two\n-- why\nSELECT ';'\n") == {
        "one": "SELECT 1",
        "two": "-- why\nSELECT ';'",
    }


@pytest.mark.parametrize("source", ["-- name: a\n-- name: b\nSELECT 1", "-- name: a\nSELECT 1\n-- name: a\nSELECT 2"])
def test_statements_without_a_body_or_with_one_name_are_refused(source: str) -> None:
    """A name that stands twice or names nothing is an error at start, not a surprise later."""
    with pytest.raises(ValueError, match="empty or stands twice"):
        parse(source)


def test_every_statement_of_the_package_parses() -> None:
    """All ``.sql`` files load together, and no two share a name."""
    assert {"claim", "finish", "promote"} <= set(statements())


def test_what_a_manifest_holds_is_counted() -> None:
    """Directories, links and deletions are no files."""
    kinds = ("file", "dir", "link", "deleted", "file")
    entries = [
        {
            "path": f"p{n}",
            "kind": kind,
            "mode": 0,
            "size": 5,
            "sha256": "0" * 64,
            "object": 0,
            "offset": 0,
            "target": "",
        }
        for n, kind in enumerate(kinds)
    ]
    manifest = {"entries": entries, "objects": [{"key": "p/x/1", "size": 5}], "left_out": []}
    assert files_in(manifest) == (2, 10)  # type: ignore[arg-type]
    assert manifest_problem(manifest, "p/x/") == ""  # type: ignore[arg-type]
    assert "not this attempt's" in manifest_problem(manifest, "p/y/")  # type: ignore[arg-type]
