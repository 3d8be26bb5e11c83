"""Freezing, thawing, and the lease that does both by itself."""

from __future__ import annotations

import asyncio
import time

from rgrid_shared.states import FailureClass

from .conftest import LOST_AFTER_S, Bench, until

TICKS = """
import os, time
print(os.getpid(), flush=True)
child = os.fork()
if child: print(child, flush=True)
while True: time.sleep(0.01)
"""


async def pids_of(bench: Bench, key: str) -> list[int]:
    """The script and its child, once both are up."""
    text = b""
    async for chunk in bench.backend.stream(key, 0):
        text += chunk.data
        if text.count(b"\n") == 2:
            break
    return [int(line) for line in text.split()]


def standing(bench: Bench, pids: list[int]) -> bool:
    return all(bench.state_of(pid) == "T" for pid in pids)


def going(bench: Bench, pids: list[int]) -> bool:
    return all(bench.state_of(pid) in ("R", "S") for pid in pids)


async def test_freeze_stops_everything_and_thaw_lets_it_go_on(bench: Bench) -> None:
    """When freeze() returns the script and its children stand; after thaw() they run."""
    key = await bench.start(TICKS)
    pids = await pids_of(bench, key)
    await bench.backend.freeze(key)
    assert standing(bench, pids)
    await bench.backend.freeze(key)
    await bench.backend.thaw(key)
    await until(lambda: going(bench, pids))
    await bench.backend.kill(key, FailureClass.CANCELLED)
    assert (await bench.backend.wait(key)).failure is FailureClass.CANCELLED


async def test_frozen_time_is_not_script_time(bench: Bench) -> None:
    """The timeout does not run while the script stands."""
    key = await bench.start(TICKS, timeout_s=0.5)
    pids = await pids_of(bench, key)
    await bench.backend.freeze(key)
    frozen_at = time.monotonic()
    await until(lambda: time.monotonic() > frozen_at + 1.0)
    assert standing(bench, pids)
    await bench.backend.thaw(key)
    end = await bench.backend.wait(key)
    assert end.failure is FailureClass.TIMEOUT
    assert end.wall_ms >= 1500


async def test_a_frozen_run_is_killed_where_it_stands(bench: Bench) -> None:
    """kill() on a frozen run neither waits for the grace nor lets it run again."""
    key = await bench.start(
        "import signal; signal.signal(signal.SIGTERM, lambda *_: print('ran'))\n" + TICKS, grace_s=60
    )
    await pids_of(bench, key)
    await bench.backend.freeze(key)
    await bench.backend.kill(key, FailureClass.RUNNER_LOST)
    async with asyncio.timeout(5):
        end, out, _ = await bench.finish(key)
    assert end.failure is FailureClass.RUNNER_LOST
    assert b"ran" not in out


async def test_an_ended_lease_freezes_and_a_renewed_one_thaws(bench: Bench) -> None:
    """When the lease passes the run stands by itself; renewed in time, it goes on as if nothing had been."""
    key = await bench.start(TICKS)
    pids = await pids_of(bench, key)
    await bench.backend.renew(key, time.clock_gettime(time.CLOCK_BOOTTIME) + 0.2)
    await until(lambda: standing(bench, pids))
    await bench.backend.renew(key, time.clock_gettime(time.CLOCK_BOOTTIME) + 100)
    await until(lambda: going(bench, pids))
    await bench.backend.kill(key, FailureClass.CANCELLED)
    assert (await bench.backend.wait(key)).failure is FailureClass.CANCELLED


async def test_a_lease_may_begin_with_the_run(bench: Bench) -> None:
    """A lease given with the order holds without a call of renew()."""
    key = await bench.start(TICKS, lease_until=time.clock_gettime(time.CLOCK_BOOTTIME) + 0.5)
    pids = await pids_of(bench, key)
    await until(lambda: standing(bench, pids))


async def test_a_lease_that_stays_ended_kills_without_an_agent(bench: Bench) -> None:
    """Left alone, a run without a lease is killed, and the next agent learns that it was lost."""
    key = await bench.start(TICKS)
    pids = await pids_of(bench, key)
    await bench.backend.renew(key, time.clock_gettime(time.CLOCK_BOOTTIME) + 0.1)
    await bench.backend.close(abandon=True)
    await until(lambda: not any(map(bench.state_of, pids)), LOST_AFTER_S + 10)
    assert await bench.reopen() == [key]
    assert (await bench.backend.wait(key)).failure is FailureClass.RUNNER_LOST


async def test_thaw_does_not_override_an_ended_lease(bench: Bench) -> None:
    """Only a new lease lets a run go on whose lease has ended."""
    key = await bench.start(TICKS)
    pids = await pids_of(bench, key)
    await bench.backend.renew(key, time.clock_gettime(time.CLOCK_BOOTTIME) - 0.01)
    await until(lambda: standing(bench, pids))
    await bench.backend.freeze(key)
    await bench.backend.thaw(key)
    assert standing(bench, pids)
