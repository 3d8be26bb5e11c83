"""Warm containers: who gets which, how many are ready, what must go."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from rgrid_runner.containers.stock import QUIET_S, SETTLE_S, Kind, Stock

KINDS = (Kind("a"), Kind("a", network=False), Kind("b", gpus=("GPU-1",)))
BATCHES = ("one", "two", "three")
SLOTS, SPARE, IDLE_S, BATCH_IDLE_S = 3, 1, 300.0, 10.0
LIMIT = 2 * SLOTS + SPARE


def stock() -> Stock:
    return Stock(slots=SLOTS, spare=SPARE, idle_s=IDLE_S, batch_idle_s=BATCH_IDLE_S, limit=LIMIT)


def wanted(of: Stock, now: float, most: int = 99) -> int:
    return len(of.plan(now, Counter(), most).make)


class Life(RuleBasedStateMachine):
    """A pool's days: runs come and go, containers die, time passes."""

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.stock = stock()
        self.now = 0.0
        self.made = 0
        self.served: dict[str, tuple[str, bool]] = {}
        self.there: dict[str, Kind] = {}
        self.busy: set[str] = set()

    def make(self, kind: Kind) -> str:
        self.made += 1
        name = f"c{self.made}"
        self.there[name] = kind
        self.stock.add(name, kind, self.now)
        return name

    def gone(self, name: str) -> None:
        self.stock.drop(name)
        del self.there[name]

    @rule(target=running, kind=st.sampled_from(KINDS), batch=st.sampled_from(BATCHES), alone=st.booleans())
    def start(self, kind: Kind, batch: str, alone: bool) -> str:
        name = self.stock.choose(kind, batch, alone=alone)
        if name is None:
            if crowded := self.stock.make_room():
                assert crowded not in self.busy
                self.gone(crowded)
            name = self.make(kind)
        assert name in self.there, "it is dead or gone"
        assert name not in self.busy
        assert self.there[name] == kind
        assert self.served.get(name, (batch, False)) == (batch, False), "another batch's, or somebody's alone"
        assert not (alone and name in self.served)
        self.stock.take(name, batch, self.now, alone=alone)
        self.served[name] = (batch, alone)
        self.busy.add(name)
        return name

    @rule(name=consumes(running), reusable=st.booleans())
    def end(self, name: str, reusable: bool) -> None:
        self.busy.discard(name)
        kept = self.stock.give_back(name, self.now, reusable=reusable)
        assert kept == (reusable and not self.served[name][1] and len(self.there) <= LIMIT)
        if not kept:
            del self.there[name]

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        if idle := sorted(set(self.there) - self.busy):
            self.gone(data.draw(st.sampled_from(idle)))

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 2.0, 11.0, 301.0]), most=st.integers(0, 4))
    def later(self, seconds: float, most: int) -> None:
        self.now += seconds
        plan = self.stock.plan(self.now, Counter(), most)
        assert not set(plan.remove) & self.busy
        assert len(plan.make) <= most
        for name in plan.remove:
            self.gone(name)
        for kind in plan.make:
            self.make(kind)
        assert len(self.there) <= max(LIMIT, len(self.busy))
        assert plan.again_at is None or plan.again_at > self.now

    @invariant()
    def what_is_idle_stays_within_the_limit(self) -> None:
        assert len(self.there) == len(self.stock)
        if set(self.there) - self.busy:
            assert len(self.there) <= LIMIT

    def teardown(self) -> None:
        """In the end, when nobody comes any more, nothing is left."""
        for name in sorted(self.busy):
            self.stock.give_back(name, self.now, reusable=False)
            del self.there[name]
        for _ in range(2):
            self.now += IDLE_S + 1
            plan = self.stock.plan(self.now, Counter(), 99)
            assert not plan.make
            for name in plan.remove:
                self.gone(name)
        assert not self.there


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
"""Two batches never share a container, a dead one is never given out, and there are never more than allowed."""


def test_a_batch_gets_its_own_container_back_before_a_fresh_one() -> None:
    """What a batch has used it uses again, and leaves the fresh ones to others."""
    it = stock()
    it.add("used", KINDS[0], 0)
    it.take("used", "one", 0, alone=False)
    it.add("fresh", KINDS[0], 0)
    it.give_back("used", 1, reusable=True)
    assert it.choose(KINDS[0], "one", alone=False) == "used"
    assert it.choose(KINDS[0], "one", alone=True) == "fresh"
    assert it.choose(KINDS[0], "two", alone=False) == "fresh"


def test_as_many_are_ready_as_were_in_use_at_once() -> None:
    """After four slots were busy, as many as the slots are made again, but not while a batch is going on."""
    it = stock()
    for name in ("a", "b", "c", "d"):
        it.add(name, KINDS[0], 0)
        it.take(name, "one", 0, alone=False)
    assert wanted(it, SETTLE_S / 2) == 0
    assert wanted(it, SETTLE_S) == SPARE
    for name in ("a", "b", "c", "d"):
        it.give_back(name, 5, reusable=True)
    assert wanted(it, 5 + QUIET_S) == SLOTS
    assert wanted(it, 5 + QUIET_S, most=2) == 2


def test_a_kind_that_was_expected_has_a_spare_one_for_a_while() -> None:
    """What a runner starts with goes when nobody asks for it."""
    it = stock()
    assert it.plan(0, Counter(), 2).again_at is None
    it.expect(KINDS[0], 0)
    assert it.plan(0, Counter(), 2).make == (KINDS[0],)
    it.add("a", KINDS[0], 0)
    assert it.plan(1, Counter(), 2).make == ()
    assert it.plan(IDLE_S, Counter(), 2).remove == ("a",)


def test_one_that_served_a_batch_goes_after_ten_seconds() -> None:
    """A batch that has ended holds nothing for long."""
    it = stock()
    it.add("a", KINDS[0], 0)
    it.take("a", "one", 0, alone=False)
    it.give_back("a", 5, reusable=True)
    assert it.plan(14.9, Counter(), 0).remove == ()
    assert it.plan(15, Counter(), 0).remove == ("a",)


def test_isolated_runs_have_fresh_ones_made_at_once() -> None:
    """Where each item needs a container of its own, refilling does not wait for a quiet moment."""
    it = stock()
    for name in ("a", "b"):
        it.add(name, KINDS[0], 0)
        it.take(name, "one", 0, alone=True)
    assert wanted(it, 0) == 2
