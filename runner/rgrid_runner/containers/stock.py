"""Which warm container serves whom, how many are to be ready, and which must go. Decisions only: no clock, no engine.

::

    (made) ─▶ fresh ─▶ busy ─▶ kept for its batch ─▶ busy ─▶ … ─▶ gone
                        └─▶ gone (isolated, something left in it, died)

A container belongs to the first batch that it serves, for good. How many fresh ones are ready follows demand: as many
as were lately in use at once, and none of a kind that nobody asked for lately.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SETTLE_S: Final = 0.3
"""After a container was taken, refilling waits so long for its run to end: short ones have the host for themselves."""
QUIET_S: Final = 1.0
"""While containers are taken faster than this, no more than the spare ones are made: a batch uses its own again."""


class Kind(NamedTuple):
    """What cannot be changed after a container was started. ``image``: an id. ``gpus``: device ids."""

    image: str
    network: bool = True
    gpus: tuple[str, ...] = ()


class Plan(NamedTuple):
    """What to do now, and when to ask again (None: when something happens)."""

    make: tuple[Kind, ...]
    remove: tuple[str, ...]
    again_at: float | None


@dataclass(slots=True)
class _Entry:
    name: str
    kind: Kind
    since: float
    batch: str = ""
    alone: bool = False
    busy: bool = False


@dataclass(slots=True)
class _Demand:
    """How much a kind was asked for. ``reached[n]``: when n + 1 were last in use at once."""

    asked: float
    taken: float = float("-inf")
    alone: bool = False
    reached: list[float] = field(default_factory=list)


class Stock:
    """The containers of one runner by name. Times in seconds on one clock that never goes back.

    ``slots``: how many are in use at most, usually. ``spare``: fresh ones ready for each kind that was used within
    ``idle_s``. ``batch_idle_s``: how long one that served a batch waits for its next item. ``limit``: most in all;
    only ones in use go beyond it.
    """

    def __init__(self, *, slots: int, spare: int, idle_s: float, batch_idle_s: float, limit: int) -> None:
        self.slots = slots
        self.spare = spare
        self.idle_s = idle_s
        self.batch_idle_s = batch_idle_s
        self.limit = limit
        self._entries: dict[str, _Entry] = {}
        self._demand: dict[Kind, _Demand] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def is_busy(self, name: str) -> bool:
        """True while it is in use."""
        return name in self._entries and self._entries[name].busy

    def expect(self, kind: Kind, now: float) -> None:
        """Somebody is going to ask for this kind."""
        demand = self._demand.setdefault(kind, _Demand(now))
        demand.asked = now

    def choose(self, kind: Kind, batch: str, *, alone: bool) -> str | None:
        """The idle container to use: one that served this batch, else a fresh one; None if there is neither.

        ``alone``: only a fresh one will do.
        """
        idle = [entry for entry in self._entries.values() if entry.kind == kind and not entry.busy]
        mine = [] if alone else [entry for entry in idle if entry.batch == batch]
        fresh = [entry for entry in idle if not entry.batch]
        found = max(mine, key=_since, default=None) or min(fresh, key=_since, default=None)
        return found.name if found else None

    def add(self, name: str, kind: Kind, now: float) -> None:
        """A container that was just made."""
        self._entries[name] = _Entry(name, kind, now)

    def take(self, name: str, batch: str, now: float, *, alone: bool) -> None:
        """It is in use now. ValueError if it must not be: it is in use, or another batch's."""
        entry = self._entries[name]
        if entry.busy or (entry.batch and (alone or entry.batch != batch)):
            raise ValueError(f"container {name} belongs to batch {entry.batch}")
        entry.busy, entry.batch, entry.alone, entry.since = True, batch, alone, now
        demand = self._demand.setdefault(entry.kind, _Demand(now))
        demand.asked = demand.taken = now
        demand.alone = alone
        self._reached(entry.kind, now)

    def give_back(self, name: str, now: float, *, reusable: bool) -> bool:
        """Its run is over; False if it is forgotten here and must go."""
        entry = self._entries[name]
        self._reached(entry.kind, now)
        self._demand[entry.kind].asked = now
        if not reusable or entry.alone or len(self._entries) > self.limit:
            del self._entries[name]
            return False
        entry.busy, entry.since = False, now
        return True

    def drop(self, name: str) -> None:
        """It is gone. No-op for one that is not known."""
        self._entries.pop(name, None)

    def make_room(self, coming: int = 0) -> str | None:
        """The idle container that must go so that one more may be made, the least useful first; None if all may stay.

        ``coming``: how many are being made.
        """
        if len(self._entries) + coming < self.limit:
            return None
        idle = [entry for entry in self._entries.values() if not entry.busy]
        found = min(idle, key=lambda entry: (not entry.batch, self._asked(entry.kind), entry.since), default=None)
        return found.name if found else None

    def plan(self, now: float, making: Mapping[Kind, int], most: int) -> Plan:
        """What is to be made in the background (``most`` of it at a time, ``making`` included) and what must go."""
        remove = tuple(entry.name for entry in self._entries.values() if self._over(entry, now))
        self._demand = {
            kind: demand
            for kind, demand in self._demand.items()
            if now - demand.asked < self.idle_s or any(entry.kind == kind for entry in self._entries.values())
        }
        coming = sum(making.values())
        room = min(most - coming, self.limit - (len(self._entries) - len(remove)) - coming)
        make: list[Kind] = []
        for kind in sorted(self._demand, key=self._asked, reverse=True):
            lack = self._wanted(kind, now) - self._fresh(kind) - making.get(kind, 0)
            make += [kind] * min(lack, room - len(make))
        return Plan(tuple(make), remove, self._again_at(now))

    # inside

    def _asked(self, kind: Kind) -> float:
        demand = self._demand.get(kind)
        return demand.asked if demand else float("-inf")

    def _fresh(self, kind: Kind) -> int:
        return sum(entry.kind == kind and not entry.batch for entry in self._entries.values())

    def _busy(self, kind: Kind) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.kind == kind and entry.busy]

    def _reached(self, kind: Kind, now: float) -> None:
        """So many are in use at this moment."""
        count = len(self._busy(kind))
        reached = self._demand[kind].reached
        reached[:count] = [now] * count

    def _level(self, kind: Kind, now: float) -> int:
        """How many were in use at once within the last ``idle_s``."""
        reached = self._demand[kind].reached
        lately = sum(now - at < self.idle_s for at in reached)
        return min(self.slots, max(lately, len(self._busy(kind))))

    def _wanted(self, kind: Kind, now: float) -> int:
        """How many fresh ones should be ready."""
        demand = self._demand[kind]
        if now - demand.asked >= self.idle_s:
            return 0
        busy = self._busy(kind)
        if demand.alone:
            return max(self.spare, self._level(kind, now))
        if busy and now - demand.taken < SETTLE_S:
            return 0
        if now - demand.taken < QUIET_S:
            return self.spare
        return max(self.spare, self._level(kind, now) - len(busy))

    def _over(self, entry: _Entry, now: float) -> bool:
        if entry.busy:
            return False
        if entry.batch:
            return now - entry.since >= self.batch_idle_s
        return now - max(self._asked(entry.kind), entry.since) >= self.idle_s

    def _again_at(self, now: float) -> float | None:
        """When time alone changes what is planned."""
        times: list[float] = []
        for demand in self._demand.values():
            times += [demand.taken + SETTLE_S, demand.taken + QUIET_S, demand.asked + self.idle_s]
        for entry in self._entries.values():
            if not entry.busy:
                times.append(entry.since + (self.batch_idle_s if entry.batch else self.idle_s))
        return _soonest(times, now)


def _since(entry: _Entry) -> float:
    return entry.since


def _soonest(times: Iterable[float], now: float) -> float | None:
    return min((at for at in times if at > now), default=None)
