"""Warm containers on the engine of this machine."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from support.engine import BARE_IMAGE, IMAGE, SHELL_IMAGE, require_image

from rgrid_runner.backends.base import BackendError
from rgrid_runner.containers.box import Boxes, Keeper, Warm
from rgrid_runner.containers.engine import Engine
from rgrid_runner.containers.pool import Pool
from rgrid_runner.containers.stock import Kind
from rgrid_shared.states import FailureClass

pytestmark = pytest.mark.usefixtures("docker_engine")
IDLE_S: Final = 300.0


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A pool without its loop: ``later`` is what the loop does."""

    def __init__(self, directory: Path) -> None:
        self.engine = Engine(f"pool-{directory.name}-{os.getpid()}")
        self.boxes = Boxes(directory, self.engine, lambda: "bridge")
        self.clock = Clock()
        self.pool = Pool(self.boxes, slots=2, spare=1, idle_s=IDLE_S, clock=self.clock)
        self.kind = Kind(require_image(IMAGE), network=False)

    async def later(self, seconds: float = 0.0) -> int:
        """Let time pass and what is due be done; how many containers there are then."""
        self.clock.now += seconds
        await self.pool.run_once(self.clock.now)
        await self.pool.settle()
        return len(await self.engine.ours())


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    it = Bench(tmp_path)
    await it.boxes.open(set())
    yield it
    for name, warm in list(it.pool._warm.items()):
        if it.pool._stock.is_busy(name):
            it.pool.put(warm, reusable=False)
    await it.pool.close(abandon=False)
    left = await it.engine.ours()
    await asyncio.gather(*map(it.engine.remove, left))
    await it.engine.close()
    assert left == []
    assert list((tmp_path / "ctl").iterdir()) == []


def kill(warm: Warm) -> None:
    """Kill its PID 1 and wait for that, without letting anything else in this process hear of it."""
    pidfd = os.pidfd_open(warm.pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)


async def test_one_is_ready_before_it_is_asked_for(bench: Bench) -> None:
    """What was expected is up when it is needed, and is handed out as it is."""
    bench.pool.expect(bench.kind)
    assert await bench.later() == 1
    (ready,) = await bench.engine.ours()
    warm = await bench.pool.get(bench.kind, "one")
    assert warm.container == ready
    assert warm.alive


async def test_a_batch_uses_its_container_again_and_no_other_batch_does(bench: Bench) -> None:
    """Never two batches in one container."""
    first = await bench.pool.get(bench.kind, "one")
    bench.pool.put(first, reusable=True)
    assert await bench.pool.get(bench.kind, "one") is first
    bench.pool.put(first, reusable=True)
    other = await bench.pool.get(bench.kind, "two")
    assert other.container != first.container


async def test_what_is_not_as_it_was_is_thrown_away(bench: Bench) -> None:
    """Also what was asked for to be used once."""
    spoilt = await bench.pool.get(bench.kind, "one")
    bench.pool.put(spoilt, reusable=False)
    lonely = await bench.pool.get(bench.kind, "one", alone=True)
    assert lonely.container != spoilt.container
    bench.pool.put(lonely, reusable=True)
    await bench.pool.settle()
    assert await bench.engine.ours() == []


async def test_a_dead_one_is_never_handed_out(bench: Bench) -> None:
    """One that died a moment ago, before anybody could hear of it, is passed over and replaced."""
    warm = await bench.pool.get(bench.kind, "one")
    bench.pool.put(warm, reusable=True)
    kill(warm)
    again = await bench.pool.get(bench.kind, "one")
    assert again.container != warm.container
    assert again.alive


async def test_the_death_of_an_idle_one_is_noticed(bench: Bench) -> None:
    """Nobody has to ask for it first."""
    bench.pool.expect(bench.kind)
    await bench.later()
    warm = next(iter(bench.pool._warm.values()))
    kill(warm)
    async with asyncio.timeout(10):
        while bench.pool._warm:
            await asyncio.sleep(0.01)
    assert await bench.later() == 1


async def test_as_many_are_ready_as_were_in_use_and_none_when_nobody_comes(bench: Bench) -> None:
    """The pool's size follows demand, and goes away when idle."""
    both = await asyncio.gather(bench.pool.get(bench.kind, "one"), bench.pool.get(bench.kind, "one"))
    for warm in both:
        bench.pool.put(warm, reusable=True)
    assert await bench.later(5.0) == 4
    assert await bench.later(5.0) == 2  # those of the batch have waited long enough
    assert {warm.container for warm in both}.isdisjoint(await bench.engine.ours())
    assert await bench.later(IDLE_S) == 0


async def test_who_waits_gets_what_comes_first(bench: Bench) -> None:
    """An item that waits for a container to be made takes the one that another item of its batch gives back."""
    first = await bench.pool.get(bench.kind, "one")
    waiting = asyncio.ensure_future(bench.pool.get(bench.kind, "one"))
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.pool.put(first, reusable=True)
    assert await waiting is first
    await bench.pool.settle()


async def test_an_image_that_is_gone_is_said_to_who_waits(bench: Bench) -> None:
    """Nobody waits for ever, and the next who asks is served."""
    with pytest.raises(BackendError, match="no image") as caught:
        await bench.pool.get(Kind("sha256:" + "00" * 32), "one")
    assert caught.value.failure is FailureClass.INFRASTRUCTURE
    assert (await bench.pool.get(bench.kind, "one")).alive


async def test_a_cancelled_wait_leaves_nothing_behind(bench: Bench) -> None:
    """What was being made for it becomes a spare one."""
    waiting = asyncio.ensure_future(bench.pool.get(bench.kind, "one"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await bench.pool.settle()
    (left,) = await bench.engine.ours()
    assert (await bench.pool.get(bench.kind, "two")).container == left


async def test_idle_ones_end_with_their_agent(bench: Bench, tmp_path: Path) -> None:
    """After kill -9 of an agent its idle containers are gone without anybody's help."""
    state = tmp_path / "agent"
    state.mkdir()
    code = textwrap.dedent(f"""
        import sys; sys.path[:0] = {sys.path!r}
        import asyncio
        from pathlib import Path
        from rgrid_runner.containers.box import Boxes
        from rgrid_runner.containers.engine import Engine
        from rgrid_runner.containers.stock import Kind

        async def main():
            boxes = Boxes(Path({str(state)!r}), Engine({bench.engine.runner!r}), lambda: "bridge")
            await boxes.open(set())
            warm = await boxes.make(Kind(*{tuple(bench.kind)!r}))
            print(warm.pid, flush=True)
            await asyncio.Event().wait()
        asyncio.run(main())
    """)
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert agent.stdout is not None
    pid = int(await agent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    agent.kill()
    await agent.wait()
    async with asyncio.timeout(20):
        while await bench.engine.ours():
            await asyncio.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    ("name", "has"),
    [
        (IMAGE, Keeper("/usr/bin/python3", shell=True)),
        (SHELL_IMAGE, Keeper("", shell=True)),
        (BARE_IMAGE, Keeper("", shell=False)),
    ],
)
async def test_every_image_can_be_kept_warm(bench: Bench, name: str, has: Keeper) -> None:
    """By its interpreter, by its shell, or by a shell of the host's; found out once, also for the next agent."""
    image = require_image(name)
    assert await bench.boxes.keeper(image) == has
    warm = await bench.pool.get(Kind(image, network=False), "one")
    assert warm.alive
    again = Boxes(bench.boxes._memory.parent, bench.engine, lambda: "bridge")
    await again.open({warm.container})
    assert again._keepers == {image: has}
    assert warm.alive
    bench.pool.put(warm, reusable=True)
