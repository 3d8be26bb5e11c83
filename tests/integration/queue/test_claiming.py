"""Claims: never twice, never too much, best first."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from support.queue_grid import QueueGrid, free, needing, refs

from rgrid_shared.states import Status


async def test_two_runners_never_hold_the_same_execution(queue: QueueGrid) -> None:
    """64 claimers at once get every execution exactly once."""
    batch_id = await queue.batch(200)
    runners = [await queue.runner() for _ in range(8)]

    async def claim_all(runner_id: str) -> list[str]:
        mine: list[str] = []
        while claimed := await queue.claim(runner_id, 3):
            mine += [claim.execution_id for claim in claimed]
        return mine

    held = await asyncio.gather(*(claim_all(runners[n % 8]) for n in range(64)))
    times = Counter(execution_id for mine in held for execution_id in mine)
    assert set(times.values()) == {1}
    while claimed := await queue.claim(runners[0], 50):
        times.update(claim.execution_id for claim in claimed)
    assert len(times) == 200
    assert set(times.values()) == {1}
    assert await queue.counts(batch_id) == {Status.RUNNING: 200}


async def test_a_repeated_request_gets_the_same_attempts(queue: QueueGrid) -> None:
    """A lost reply costs nothing: the same request id gives the same claims, and no more."""
    await queue.batch(10)
    runner_id = await queue.runner()
    first = await queue.claim(runner_id, 3, "request-1")
    again = await queue.claim(runner_id, 3, "request-1")
    assert sorted(refs(first)) == sorted(refs(again))
    assert again[0].item == first[0].item or len(again) == 3
    other = await queue.claim(runner_id, 3, "request-2")
    assert not set(refs(first)) & set(refs(other))


async def test_one_request_sent_twice_at_once_claims_once(queue: QueueGrid) -> None:
    """A request that is repeated while the first is being answered gets that one's claims."""
    await queue.batch(50)
    runner_id = await queue.runner()
    answers = await asyncio.gather(*(queue.claim(runner_id, 4, "request-1") for _ in range(8)))
    assert len({tuple(sorted(refs(claimed))) for claimed in answers}) == 1


async def test_a_claim_fits_what_is_free(queue: QueueGrid) -> None:
    """Two 3-CPU executions do not both fit 4 CPUs; a small one beside does."""
    await queue.batch(2, what=needing(cpu_millis=3000), priority=5)
    await queue.batch(4, what=needing(cpu_millis=1000))
    runner_id = await queue.runner()
    claimed = await queue.claim(runner_id, free(10, cpu_millis=4000))
    assert len(claimed) == 2
    assert len(await queue.claim(runner_id, free(10, cpu_millis=2000))) == 2
    assert await queue.claim(runner_id, free(10, cpu_millis=500)) == []


@pytest.mark.parametrize(
    ("needs", "room"),
    [
        ({"memory": 100}, {"memory": 250}),
        ({"disk": 100}, {"disk": 250}),
        ({"gpus": 1}, {"gpus": [0, 1]}),
        ({"gpu_model": "a100"}, {"gpus": [3, 3]}),
        ({"gpus": 2}, {"gpus": [0, 1, 2, 3]}),
        ({}, {"slots": 2}),
    ],
)
async def test_every_resource_is_subtracted(queue: QueueGrid, needs: dict[str, int], room: dict[str, Any]) -> None:
    """Memory, disk, GPUs and slots are each counted down as a claim goes."""
    await queue.batch(5, what=needing(**needs))
    assert len(await queue.claim(await queue.runner(), free(**{"slots": 10, **room}))) == 2


async def test_a_runner_gets_only_what_it_can_serve(queue: QueueGrid) -> None:
    """Runtime, labels, GPUs and sizes decide which shapes a runner is offered."""
    await queue.batch(1, what=needing(gpus=1, gpu_model="H100"))
    await queue.batch(1, what=needing(labels={"zone": "a"}))
    await queue.batch(1, what={**needing(), "runtime": "node20"})
    await queue.batch(1, what=needing(memory=2**60))
    runner_id = await queue.runner()
    assert await queue.claim(runner_id, 10) == []
    served = await queue.claim(await queue.runner(labels={"zone": "a"}, runtimes={"python3.11": "", "node20": ""}), 10)
    assert len(served) == 2


MIXED = {
    "cpu_millis": 10**9,
    "memory": 10**15,
    "disk": 10**15,
    "gpus": [
        {"index": 0, "model": "NVIDIA A100", "memory": 40 << 30},
        *({"index": n, "model": "Tesla T4", "memory": 16 << 30} for n in (1, 2, 3)),
    ],
}


async def test_a_host_with_several_models_gets_what_it_can_place(queue: QueueGrid) -> None:
    """Three free T4 do not let a second execution claim the one A100; another host may take it."""
    large = await queue.batch(3, what=needing(gpus=1, gpu_model="A100"), priority=5)
    await queue.batch(9, what=needing(gpus=1, gpu_memory=10 << 30))
    mixed = await queue.runner(resources=MIXED)
    first = await queue.claim(mixed, free(10, gpus=[0, 1, 2]))
    assert [claim.batch_id == large for claim in first].count(True) == 1
    assert len(first) == 3
    assert await queue.claim(mixed, free(10, gpus=[])) == []
    assert len({claim.batch_id for claim in await queue.claim(mixed, free(10, gpus=[1, 2, 3]))}) == 1
    assert len(await queue.claim(await queue.runner(), free(10, gpus=[0, 1, 2, 3]))) == 4


async def test_priority_goes_first(queue: QueueGrid) -> None:
    """A batch of higher priority is claimed before one that is older."""
    await queue.batch(3)
    urgent = await queue.batch(3, priority=10)
    claimed = await queue.claim(await queue.runner(), 3)
    assert {claim.batch_id for claim in claimed} == {urgent}


async def test_projects_take_turns(queue: QueueGrid) -> None:
    """A project with a few executions does not wait behind another's thousand."""
    await queue.batch(1000)
    small = await queue.batch(5, project_id=await queue.project("two"))
    claimed = await queue.claim(await queue.runner(), 20)
    assert sum(claim.batch_id == small for claim in claimed) == 5


async def test_items_of_a_batch_start_in_order(queue: QueueGrid) -> None:
    """Within a batch the first items start first."""
    await queue.batch(30)
    claimed = await queue.claim(await queue.runner(), 10)
    assert sorted(claim.index for claim in claimed) == list(range(10))


async def test_only_listed_attempts_are_renewed(queue: QueueGrid) -> None:
    """A lease is renewed by the polls that list it, of its own runner, and by no other."""
    await queue.batch(3)
    runner_id, other = await queue.runner(), await queue.runner()
    first, second, third = refs(await queue.claim(runner_id, 3))
    await queue.run("UPDATE attempts SET lease_expires_at = clock_timestamp() + interval '1 second'")
    assert await queue.renew(runner_id, [first, ("exe_unknown", 1), (second[0], 7)]) == {first: False}
    assert await queue.renew(other, [third]) == {}
    rows = await queue.run(
        "SELECT execution_id FROM attempts WHERE lease_expires_at > clock_timestamp() + interval '30 seconds'"
    )
    assert [row[0] for row in rows] == [first[0]]


async def test_a_claim_that_is_cancelled_half_way_changes_nothing_or_everything(queue: QueueGrid) -> None:
    """Claimers that are cut off leave no execution running without an attempt, and none is lost."""
    batch_id = await queue.batch(100)
    runner_id = await queue.runner()
    for turn in range(30):
        task = asyncio.create_task(queue.claim(runner_id, 2, f"request-{turn}"))
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    orphans = await queue.run(
        "SELECT count(*) FROM executions e WHERE status = 'running' AND NOT EXISTS"
        " (SELECT FROM attempts a WHERE a.execution_id = e.id AND a.live AND a.attempt = e.attempt)"
    )
    assert orphans[0][0] == 0
    counts = await queue.counts(batch_id)
    rest = await queue.claim(runner_id, 100)
    assert len(rest) == counts[Status.QUEUED]
