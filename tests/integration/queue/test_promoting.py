"""Who may be queued: caps, canaries, failures, pauses, delays; and how batches end."""

from __future__ import annotations

import asyncio

from support.queue_grid import QueueGrid, refs

from rgrid_api.queue.promoter import WINDOW
from rgrid_shared.states import FailureClass, Status


async def _waiting(queue: QueueGrid, batch_id: str) -> tuple[int, int]:
    counts = await queue.counts(batch_id)
    return counts.get(Status.PENDING, 0), counts.get(Status.QUEUED, 0)


async def test_nothing_starts_before_the_last_item(queue: QueueGrid) -> None:
    """Executions of a batch that is not sealed cannot be claimed, whoever promotes."""
    batch_id = await queue.batch(5, sealed=False)
    await queue.promote()
    assert await queue.claim(await queue.runner(), 5) == []
    assert await _waiting(queue, batch_id) == (5, 0)


async def test_a_cap_is_never_exceeded(queue: QueueGrid) -> None:
    """``--parallel 3``: finishing hands the place on at once, and nobody ever makes it four."""
    batch_id = await queue.batch(10, parallel=3)
    runner_id = await queue.runner()
    done = 0
    while done < 10:
        held = refs(await queue.claim(runner_id, 100))
        assert 0 < len(held) <= 3
        assert await queue.claim(runner_id, 100) == []
        await asyncio.gather(*(queue.finish(runner_id, [ref]) for ref in held), *(queue.promote() for _ in range(3)))
        done += len(held)
        counts = await queue.counts(batch_id)
        assert counts.get(Status.QUEUED, 0) + counts.get(Status.RUNNING, 0) <= 3
    await queue.promote()
    assert await queue.column(batch_id, "ended_at") is not None


async def test_a_finish_hands_its_place_on(queue: QueueGrid) -> None:
    """Without any promoter a capped batch goes on to its end."""
    batch_id = await queue.batch(5, parallel=1)
    runner_id = await queue.runner()
    for index in range(5):
        (claim,) = await queue.claim(runner_id, 10)
        assert claim.index == index
        await queue.finish(runner_id, refs([claim]))
    assert await queue.column(batch_id, "ended_at") is not None


async def test_large_batches_keep_a_window_queued(queue: QueueGrid) -> None:
    """A batch of thousands keeps ``WINDOW`` queued; the promoter fills up what was taken."""
    batch_id = await queue.batch(WINDOW + 500)
    assert await _waiting(queue, batch_id) == (500, WINDOW)
    await queue.claim(await queue.runner(), 300)
    await queue.promote()
    assert await _waiting(queue, batch_id) == (200, WINDOW)


async def test_plans_made_on_a_small_queue_serve_a_large_one(queue: QueueGrid) -> None:
    """A process that has served single runs since its start takes a batch of thousands within its statements' limit."""
    runner_id = await queue.runner()
    for _ in range(12):
        await queue.batch(3)
        await queue.finish(runner_id, refs(await queue.claim(runner_id, 3)))
        await queue.promote()
    batch_id = await queue.batch(WINDOW + 500)
    await queue.finish(runner_id, refs(await queue.claim(runner_id, 500)))
    await queue.promote()
    assert await queue.queue.cancel(batch_id) == WINDOW
    assert len(await queue.queue.retry(batch_id)) == WINDOW + 500


async def test_a_canary_goes_first(queue: QueueGrid) -> None:
    """``--canary 2``: the rest starts once both have succeeded."""
    batch_id = await queue.batch(6, canary=2)
    runner_id = await queue.runner()
    held = refs(await queue.claim(runner_id, 10))
    assert len(held) == 2
    await queue.finish(runner_id, held[:1])
    await queue.promote()
    assert await _waiting(queue, batch_id) == (4, 0)
    await queue.finish(runner_id, held[1:])
    await queue.promote()
    assert await _waiting(queue, batch_id) == (0, 4)


async def test_a_canary_that_fails_stops_the_batch(queue: QueueGrid) -> None:
    """If one of the first fails nothing else starts, and each item says why."""
    batch_id = await queue.batch(6, canary=2)
    runner_id = await queue.runner()
    await queue.finish(runner_id, refs(await queue.claim(runner_id, 10)), FailureClass.SCRIPT)
    await queue.promote()
    assert await queue.counts(batch_id) == {Status.FAILED: 2, Status.CANCELLED: 4}
    assert await queue.column(batch_id, "ended_at") is not None
    rows = await queue.run("SELECT DISTINCT message FROM executions WHERE status = 'cancelled'")
    assert "canary" in rows[0][0]


async def test_max_fails_stops_a_batch(queue: QueueGrid) -> None:
    """``--max-fails 2``: a failure hands no place on, and what has not started by the second one never does."""
    batch_id = await queue.batch(20, parallel=2, max_fails=2)
    runner_id = await queue.runner()
    held = refs(await queue.claim(runner_id, 10))
    await queue.finish(runner_id, held[:1], FailureClass.SCRIPT)
    assert await _waiting(queue, batch_id) == (18, 0)
    await queue.promote()
    assert await _waiting(queue, batch_id) == (17, 1)
    await queue.finish(runner_id, held[1:], FailureClass.SCRIPT)
    await queue.promote()
    assert await queue.counts(batch_id) == {Status.FAILED: 2, Status.CANCELLED: 18}
    assert await queue.column(batch_id, "ended_at") is not None


async def test_a_pause_and_a_delay_hold_back(queue: QueueGrid) -> None:
    """Paused batches and retries whose time has not come stay pending."""
    batch_id = await queue.batch(4, parallel=1)
    runner_id = await queue.runner()
    await queue.run("UPDATE batches SET paused_at = now()")
    await queue.finish(runner_id, refs(await queue.claim(runner_id, 1)))
    await queue.promote()
    assert await _waiting(queue, batch_id) == (3, 0)
    await queue.run("UPDATE batches SET paused_at = NULL")
    await queue.run("UPDATE executions SET not_before = now() + interval '1 hour' WHERE item_index = 1")
    await queue.promote()
    (claim,) = await queue.claim(runner_id, 5)
    assert claim.index == 2


async def test_cancelled_work_never_starts(queue: QueueGrid) -> None:
    """Cancelling ends what waits at once, tells the runner of what runs, and ends the batch with the last of it."""
    batch_id = await queue.batch(50, parallel=10)
    runner_id = await queue.runner()
    held = refs(await queue.claim(runner_id, 4))
    assert await queue.queue.cancel(batch_id, reason="enough") == 50
    assert await queue.counts(batch_id) == {Status.CANCELLED: 46, Status.RUNNING: 4}
    assert await queue.claim(runner_id, 10) == []
    assert await queue.renew(runner_id, held) == dict.fromkeys(held, True)
    ended = await queue.finish(runner_id, held)
    assert {end.status for end in ended.values()} == {Status.CANCELLED}
    assert await queue.column(batch_id, "ended_at") is not None
    assert await queue.queue.cancel(batch_id) == 0


async def test_items_are_cancelled_one_by_one(queue: QueueGrid) -> None:
    """Some items can be cancelled; the others go on."""
    batch_id = await queue.batch(6)
    assert await queue.queue.cancel(batch_id, indexes=[1, 3, 99]) == 2
    claimed = await queue.claim(await queue.runner(), 10)
    assert sorted(claim.index for claim in claimed) == [0, 2, 4, 5]
    assert await queue.queue.cancel_execution(claimed[0].execution_id) == 1
    assert await queue.queue.cancel_execution(claimed[0].execution_id) == 0


async def test_cancel_and_claim_at_once(queue: QueueGrid) -> None:
    """Whatever the order, after a cancel nothing is queued and everything that runs is told to stop."""
    batch_id = await queue.batch(300)
    runner_id = await queue.runner()
    claims = [queue.claim(runner_id, 7) for _ in range(20)]
    await asyncio.gather(queue.queue.cancel(batch_id), *claims)
    counts = await queue.counts(batch_id)
    assert set(counts) <= {Status.CANCELLED, Status.RUNNING}
    told = await queue.run(
        "SELECT count(*) FROM executions WHERE status = 'running' AND cancel_requested_at IS NOT NULL"
    )
    assert told[0][0] == counts.get(Status.RUNNING, 0)


async def test_a_retry_is_a_new_execution(queue: QueueGrid) -> None:
    """Failed items run again under new ids; the old ones stand, and the batch is open until the new ones end."""
    batch_id = await queue.batch(4)
    runner_id = await queue.runner()
    held = refs(await queue.claim(runner_id, 4))
    await queue.finish(runner_id, held[:3])
    await queue.finish(runner_id, held[3:], FailureClass.SCRIPT)
    assert await queue.column(batch_id, "ended_at") is not None
    made = await queue.queue.retry(batch_id, failed=True)
    assert len(made) == 1
    assert await queue.column(batch_id, "ended_at") is None
    old = (await queue.run("SELECT status, latest FROM executions WHERE id = :id", id=held[3][0]))[0]
    assert tuple(old) == (Status.FAILED, False)
    again = await queue.claim(runner_id, 10)
    assert [(claim.execution_id, claim.attempt) for claim in again] == [(made[0], 1)]
    await queue.finish(runner_id, refs(again))
    assert await queue.counts(batch_id) == {Status.SUCCEEDED: 4}
    assert await queue.column(batch_id, "ended_at") is not None
    assert await queue.queue.retry(batch_id, failed=True) == []
    assert len(await queue.queue.retry(batch_id, indexes=[0, 2])) == 2


async def test_the_promoter_ends_what_two_finishes_left(queue: QueueGrid) -> None:
    """A batch whose last items ended in transactions that did not see each other is ended by the promoter."""
    batch_id = await queue.batch(2)
    runner_id = await queue.runner()
    held = refs(await queue.claim(runner_id, 2))
    async with queue.database.transaction() as tx:
        await tx.run("batches_lock", ids=[batch_id])
        await queue.finish(runner_id, held)
    assert await queue.column(batch_id, "ended_at") is None
    await queue.promote()
    assert await queue.column(batch_id, "ended_at") is not None
    assert await queue.promote() == 0


async def test_every_start_and_end_is_an_event(queue: QueueGrid) -> None:
    """The events of a batch tell its whole story in order."""
    batch_id = await queue.batch(1)
    runner_id = await queue.runner()
    await queue.finish(runner_id, refs(await queue.claim(runner_id, 1)))
    rows = await queue.run("SELECT kind FROM events WHERE batch_id = :b ORDER BY id", b=batch_id)
    assert [row.kind for row in rows] == ["batch.created", "execution.started", "execution.ended", "batch.ended"]
