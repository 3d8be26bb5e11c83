"""GPUs are handed out whole, once, and in turn."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from support.nvml import recorded

from rgrid_runner.gpus import Gpus, visible
from rgrid_runner.outcome import AttemptFailed
from rgrid_shared import gpus as rules
from rgrid_shared.protocol import Gpu
from rgrid_shared.specs import NO_RESOURCES, Resources
from rgrid_shared.states import FailureClass

SMALL, LARGE = ("T4", 16), ("A100", 40)


def needs(count: int = 1, model: str = "", memory: int = 0) -> Resources:
    return {**NO_RESOURCES, "gpus": count, "gpu_model": model, "gpu_memory": memory}


def host(*kinds: tuple[str, int]) -> list[Gpu]:
    return [
        {"index": index, "model": f"NVIDIA {model}", "memory": memory, "uuid": f"GPU-{index}"}
        for index, (model, memory) in enumerate(kinds)
    ]


def indices(taken: tuple[Gpu, ...] | None) -> list[int] | None:
    return None if taken is None else [gpu["index"] for gpu in taken]


class Allocation(RuleBasedStateMachine):
    """Any order of asking and giving back, on any host."""

    keys = Bundle("keys")

    @initialize(kinds=st.lists(st.sampled_from([SMALL, LARGE]), max_size=4), shares=st.integers(1, 3))
    def host(self, kinds: list[tuple[str, int]], shares: int) -> None:
        self.shares = shares
        self.gpus = Gpus(host(*kinds), shares)
        self.asked: dict[str, Resources] = {}
        self.held: dict[str, tuple[Gpu, ...]] = {}
        self.number = 0

    @rule(target=keys, count=st.integers(1, 3), kind=st.sampled_from([("", 0), ("", 20), ("T4", 0), ("A100", 0)]))
    def take(self, count: int, kind: tuple[str, int]) -> str:
        self.number += 1
        key = f"k{self.number}"
        free = Counter(self.gpus.free())
        self.asked[key] = needs(count, *kind)
        fitting = [free[gpu["index"]] for gpu in self.gpus.found if rules.fits(gpu, self.asked[key])]
        taken = self.gpus.take(key, self.asked[key])
        assert (taken is not None) == bool(rules.at_once(fitting, count)), "what was offered is given, and no more"
        return key

    @rule(key=consumes(keys))
    def release(self, key: str) -> None:
        self.gpus.release(key)
        del self.asked[key]

    @rule(key=keys)
    def ask_again(self, key: str) -> None:
        assert self.gpus.take(key, self.asked[key]) == self.held.get(key)

    @invariant()
    def what_is_held_stands(self) -> None:
        if not hasattr(self, "gpus"):
            return
        before = {key: taken for key, taken in self.held.items() if key in self.asked}
        self.held = {key: taken for key in self.asked if (taken := self.gpus.take(key, self.asked[key])) is not None}
        assert before.items() <= self.held.items(), "nothing is taken away"
        used: Counter[int] = Counter()
        for key, taken in self.held.items():
            assert len({gpu["index"] for gpu in taken}) == rules.wanted(self.asked[key])
            assert all(rules.fits(gpu, self.asked[key]) for gpu in taken)
            used.update(gpu["index"] for gpu in taken)
        assert all(count <= self.shares for count in used.values()), "never too many on one"
        self.nobody_waits_in_vain(used)

    def nobody_waits_in_vain(self, used: Counter[int]) -> None:
        """The first that waits could not be served; and what it may use is not offered to others."""
        waiting = [key for key in self.asked if key not in self.held]
        offered = self.gpus.free()
        for key in waiting:
            assert not any(rules.fits(self.gpus.found[index], self.asked[key]) for index in offered)
        if waiting:
            first = self.asked[waiting[0]]
            left = [gpu for gpu in self.gpus.found if rules.fits(gpu, first) and used[gpu["index"]] < self.shares]
            assert len(left) < rules.wanted(first)
        else:
            spare = {gpu["index"]: self.shares - used[gpu["index"]] for gpu in self.gpus.found}
            assert Counter(offered) == Counter({index: left for index, left in spare.items() if left > 0})


TestAllocation = Allocation.TestCase
TestAllocation.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_as_many_are_placed_as_were_claimed() -> None:
    """What the API counts as fitting at once, shared GPUs and pairs included, is placed one after another."""
    for left in ([2, 2, 2], [1, 1, 2], [2, 1, 3]):
        gpus = Gpus(host(SMALL, SMALL, LARGE), shares=3)
        for index, count in enumerate(left):
            for nth in range(3 - count):
                gpus.retake(f"old{index}{nth}", [f"GPU-{index}"])
        most = rules.at_once(left, 2)
        assert all(gpus.take(f"k{nth}", needs(2)) for nth in range(most))


def test_scarce_gpus_are_kept_for_those_who_need_them() -> None:
    """Who names nothing gets the smallest."""
    gpus = Gpus(host(LARGE, SMALL))
    assert indices(gpus.take("any", needs())) == [1]
    assert indices(gpus.take("large", needs(model="A100"))) == [0]
    assert gpus.free() == []


def test_shared_gpus_are_used_evenly() -> None:
    """Two executions get a GPU each before any shares."""
    gpus = Gpus(host(LARGE, LARGE), shares=2)
    assert gpus.free() == [0, 0, 1, 1]
    assert [indices(gpus.take(key, needs())) for key in "abcd"] == [[0], [1], [0], [1]]
    assert gpus.take("e", needs()) is None


async def test_who_waits_is_served_in_turn() -> None:
    """An execution that needs two is not starved by later ones that need one."""
    gpus = Gpus(host(LARGE, LARGE, SMALL))
    gpus.take("a", needs(model="A100"))
    gpus.take("b", needs(model="A100"))
    assert gpus.take("pair", needs(2, "A100")) is None
    assert gpus.take("late", needs(1, "A100")) is None
    assert gpus.free() == [2], "what nobody waits for is still offered"
    pair, late = (asyncio.create_task(gpus.wait(key)) for key in ("pair", "late"))
    gpus.release("a")
    await asyncio.sleep(0)
    assert not pair.done()
    assert not late.done()
    gpus.release("b")
    assert indices(await pair) == [0, 1]
    gpus.release("pair")
    gpus.release("pair")
    assert indices(await late) == [0]


async def test_who_gives_up_waits_no_longer() -> None:
    """A cancelled execution leaves the queue, and what was kept for it is offered again."""
    gpus = Gpus(host(LARGE, LARGE))
    gpus.take("a", needs())
    gpus.take("pair", needs(2))
    waiting = asyncio.create_task(gpus.wait("pair"))
    await asyncio.sleep(0)
    assert gpus.free() == []
    gpus.release("pair")
    assert await waiting == ()
    assert gpus.free() == [1]


async def test_what_a_host_lacks_is_not_waited_for() -> None:
    """A need that this host can never meet ends the attempt at once; another runner may serve it."""
    gpus = Gpus(host(SMALL))
    assert gpus.take("a", needs(2, "A100")) is None
    with pytest.raises(AttemptFailed, match="does not have 2 A100 GPUs") as failure:
        await gpus.wait("a")
    assert failure.value.failure is FailureClass.INFRASTRUCTURE


async def test_no_gpu_is_no_wait() -> None:
    """Who asks for none gets none, even on a host that has some, and needs no turn."""
    gpus = Gpus(host(SMALL))
    assert gpus.take("a", NO_RESOURCES) == ()
    assert await gpus.wait("a") == ()
    assert gpus.free() == [0]


def test_a_host_without_a_driver_hides_nothing() -> None:
    """A host whose GPUs are all left out tells its scripts so; one without a driver has nothing to tell."""
    assert Gpus([]).present
    assert not Gpus(None).present
    assert Gpus(None).free() == []


def test_a_successor_takes_over_who_has_what(caplog: pytest.LogCaptureFixture) -> None:
    """After a restart the GPUs of adopted executions are not free; that one has vanished is said."""
    gpus = Gpus(host(LARGE, SMALL))
    assert indices(gpus.retake("old", ["GPU-1"])) == [1]
    assert gpus.free() == [0]
    assert gpus.retake("older", ["GPU-9"]) == ()
    assert "GPU-9" in caplog.text
    gpus.release("old")
    assert gpus.free() == [0, 1]


def test_fewer_shares_than_before_the_restart() -> None:
    """Executions that shared a GPU go on sharing it; nothing else joins them."""
    gpus = Gpus(host(SMALL), shares=1)
    gpus.retake("one", ["GPU-0"])
    gpus.retake("two", ["GPU-0"])
    gpus.release("one")
    assert gpus.free() == []
    gpus.release("two")
    assert gpus.free() == [0]


def test_a_script_sees_its_own_gpus_only() -> None:
    """CUDA is told the UUIDs of what was taken, and nothing where nothing was."""
    gpus = Gpus(recorded("mixed").found())
    taken = gpus.take("a", needs(2, memory=1))
    assert taken is not None
    assert visible(taken) == {
        "CUDA_VISIBLE_DEVICES": "GPU-74000000-0000-4000-8000-000000000002,GPU-0a000000-0000-4000-8000-00000000000a"
    }
    assert visible(()) == {"CUDA_VISIBLE_DEVICES": ""}
