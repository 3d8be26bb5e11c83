"""How attempts end: accepted once, from the live attempt only; retried by rule; final for good."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError
from support.control_plane import spec
from support.queue_grid import QueueGrid, refs

from rgrid_api.queue.sweeper import Sweeper
from rgrid_api.queue.timing import Timing
from rgrid_shared.retries import MAX_INFRA_RETRIES
from rgrid_shared.states import FailureClass, Status


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def _sweep(queue: QueueGrid) -> int:
    """A sweep by a sweeper that has been at it for long."""
    clock = Clock()
    sweeper = Sweeper(queue.database, Timing(), clock)
    await sweeper.run_once()
    for _ in range(5):
        clock.now += 9
        swept = await sweeper.run_once()
    return swept


async def _expire(queue: QueueGrid) -> None:
    await queue.run("UPDATE attempts SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE live")


async def _row(queue: QueueGrid, execution_id: str) -> Any:
    return (await queue.run("SELECT * FROM executions WHERE id = :id", id=execution_id))[0]


async def test_an_end_is_final(queue: QueueGrid) -> None:
    """A finished attempt ends its execution; the same report again changes nothing and is stale to the queue."""
    batch_id = await queue.batch(1)
    runner_id = await queue.runner()
    (ref,) = refs(await queue.claim(runner_id, 1))
    ended = await queue.finish(runner_id, [ref])
    assert ended[ref].status is Status.SUCCEEDED
    row = await _row(queue, ref[0])
    assert (row.status, row.exit_code, row.failure) == (Status.SUCCEEDED, 0, None)
    assert await queue.column(batch_id, "ended_at") is not None
    assert await queue.finish(runner_id, [ref], FailureClass.SCRIPT) == {}
    assert (await _row(queue, ref[0])).version == row.version


async def test_only_the_live_attempt_of_its_own_runner_ends_it(queue: QueueGrid) -> None:
    """Another runner, and another attempt number, are stale."""
    await queue.batch(1)
    runner_id = await queue.runner()
    (ref,) = refs(await queue.claim(runner_id, 1))
    assert await queue.finish(await queue.runner(), [ref]) == {}
    assert await queue.finish(runner_id, [(ref[0], 2)]) == {}
    assert (await _row(queue, ref[0])).status == Status.RUNNING


@pytest.mark.parametrize(
    ("failure", "status"),
    [(kind, kind.rule.status) for kind in FailureClass if not kind.rule.transient],
)
async def test_failures_are_final_unless_asked(queue: QueueGrid, failure: FailureClass, status: Status) -> None:
    """A failure of the script's own ends it, with the class that was reported."""
    await queue.batch(1)
    runner_id = await queue.runner()
    (ref,) = refs(await queue.claim(runner_id, 1))
    assert (await queue.finish(runner_id, [ref], failure))[ref].status is status
    assert (await _row(queue, ref[0])).failure == failure


async def test_retries_that_the_user_asked_for(queue: QueueGrid) -> None:
    """``--retries 2`` gives three attempts, the first retry at once, the next after a while."""
    await queue.batch(1, what=spec(retry={"retries": 2, "on": []}))
    runner_id = await queue.runner()
    for attempt in (1, 2, 3):
        await queue.run("UPDATE executions SET not_before = NULL WHERE ended_at IS NULL")
        await queue.promote()
        (ref,) = refs(await queue.claim(runner_id, 1))
        assert ref[1] == attempt
        ended = await queue.finish(runner_id, [ref], FailureClass.SCRIPT)
        assert ended[ref].status is (Status.PENDING if attempt < 3 else Status.FAILED)
    row = await _row(queue, ref[0])
    assert (row.attempt, row.user_retries, row.infra_retries) == (3, 2, 0)


async def test_the_grids_own_faults_are_retried_on_their_own_counter(queue: QueueGrid) -> None:
    """Infrastructure failures are tried again without the user asking, up to a limit, and use up no user retry."""
    await queue.batch(1)
    runner_id = await queue.runner()
    for _ in range(MAX_INFRA_RETRIES + 1):
        await queue.run("UPDATE executions SET not_before = NULL WHERE ended_at IS NULL")
        await queue.promote()
        (ref,) = refs(await queue.claim(runner_id, 1))
        await queue.finish(runner_id, [ref], FailureClass.INFRASTRUCTURE)
    row = await _row(queue, ref[0])
    assert (row.status, row.failure) == (Status.FAILED, FailureClass.INFRASTRUCTURE)
    assert (row.infra_retries, row.user_retries) == (MAX_INFRA_RETRIES, 0)


async def test_the_first_retry_starts_at_once(queue: QueueGrid) -> None:
    """A preempted execution is claimable again in the same transaction that ended its attempt."""
    await queue.batch(1)
    runner_id = await queue.runner()
    (ref,) = refs(await queue.claim(runner_id, 1))
    await queue.finish(runner_id, [ref], FailureClass.PREEMPTED)
    assert refs(await queue.claim(runner_id, 1)) == [(ref[0], 2)]


async def test_a_lost_runners_work_is_claimable_again(queue: QueueGrid) -> None:
    """A lease that is over ends the attempt; its runner's late report is stale."""
    await queue.batch(2)
    runner_id = await queue.runner()
    held = refs(await queue.claim(runner_id, 2))
    await _expire(queue)
    assert await _sweep(queue) == 2
    assert {row.failure for row in await queue.run("SELECT failure FROM attempts")} == {FailureClass.RUNNER_LOST}
    assert await queue.finish(runner_id, held) == {}
    assert {ref[1] for ref in refs(await queue.claim(await queue.runner(), 5))} == {2}


async def test_a_renewed_lease_is_not_swept(queue: QueueGrid) -> None:
    """The sweeper ends only what is over when it ends it, not when it looked."""
    await queue.batch(1)
    runner_id = await queue.runner()
    held = refs(await queue.claim(runner_id, 1))
    await _expire(queue)
    await queue.renew(runner_id, held)
    assert await queue.finish(None, held, FailureClass.RUNNER_LOST) == {}
    assert await _sweep(queue) == 0


async def test_a_lost_attempt_that_was_to_be_cancelled_is_cancelled(queue: QueueGrid) -> None:
    """Cancelled work is not tried again when its runner goes away."""
    batch_id = await queue.batch(1)
    await queue.claim(await queue.runner(), 1)
    assert await queue.queue.cancel(batch_id) == 1
    await _expire(queue)
    assert await _sweep(queue) == 1
    assert await queue.counts(batch_id) == {Status.CANCELLED: 1}


@pytest.mark.parametrize("column", ["status = 'failed'", "attempt = 7", "exit_code = 3", "ended_at = now()"])
async def test_final_rows_stand(queue: QueueGrid, column: str) -> None:
    """The schema itself refuses to change what an execution came to."""
    await queue.batch(1)
    runner_id = await queue.runner()
    await queue.finish(runner_id, refs(await queue.claim(runner_id, 1)))
    with pytest.raises(DBAPIError, match="never change"):
        await queue.run(f"UPDATE executions SET {column}")
    await queue.run("UPDATE executions SET latest = latest")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE executions SET status = 'done'",
        "UPDATE executions SET ended_at = now()",
        "UPDATE executions SET status = 'succeeded'",
        "UPDATE executions SET failure = 'bad luck'",
        "UPDATE attempts SET phase = 'resting'",
        "UPDATE attempts SET live = false",
        "UPDATE batches SET received = total + 1",
        "INSERT INTO attempts (execution_id, attempt, runner_id, claim_request_id)"
        " SELECT execution_id, 2, runner_id, 'x' FROM attempts",
    ],
)
async def test_impossible_rows_cannot_be_stored(queue: QueueGrid, change: str) -> None:
    """Statuses, classes, phases and ends that make no sense are refused, and so is a second live attempt."""
    await queue.batch(1)
    await queue.claim(await queue.runner(), 1)
    with pytest.raises(IntegrityError):
        await queue.run(change)
