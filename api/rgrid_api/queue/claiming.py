"""Leases and claims: what a runner holds, and what it gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rgrid_api.batches.shapes import Host, misfit
from rgrid_api.db.session import Tx
from rgrid_api.queue.outcome import Ref
from rgrid_api.queue.timing import Timing
from rgrid_shared import gpus
from rgrid_shared.protocol import Capacity, ClaimRequest, HostResources
from rgrid_shared.specs import Item, Resources

_SHAPES_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Needs:
    """What executions of one shape need from a host."""

    shape: str
    runtime: str
    resources: Resources

    def at_once(self, free: Capacity, host: HostResources) -> int:
        """How many executions of this shape, and of no other, fit into what ``host`` has free."""
        needs = self.resources
        room = [free["slots"]]
        for need, left in (
            (needs["cpu_millis"], free["cpu_millis"]),
            (needs["memory"], free["memory"]),
            (needs["disk"], free["disk"]),
        ):
            if need:
                room.append(left // need)
        if each := gpus.wanted(needs):
            fitting = {gpu["index"] for gpu in host["gpus"] if gpus.fits(gpu, needs)}
            free_slots = Counter(index for index in free["gpus"] if index in fitting)
            room.append(gpus.at_once(list(free_slots.values()), each))
        return min(room)


@dataclass(frozen=True, slots=True)
class Seen:
    """A runner that has just been heard of. ``held``: listed attempts that are its own; True = to be stopped."""

    host: Host
    held: Mapping[Ref, bool]
    shapes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Claimed:
    """An execution that is now this runner's."""

    execution_id: str
    attempt: int
    batch_id: str
    project_id: str
    index: int
    item: Item


class Claims:
    """Claims executions for runners. Remembers what shapes need: a shape is the hash of its needs and never changes."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._needs: dict[str, Needs] = {}

    async def seen(
        self,
        tx: Tx,
        runner_id: str,
        token_id: str,
        *,
        attempts: Sequence[Ref],
        renew: bool,
        claiming: bool,
        draining: bool | None = None,
    ) -> Seen | None:
        """Note that a runner lives and, with ``renew``, renew the leases of exactly ``attempts``; None if unknown.

        Locks the runner's row to the end of ``tx``.
        """
        found = await tx.run(
            "runner_seen",
            runner_id=runner_id,
            token_id=token_id,
            draining=draining,
            executions=[ref[0] for ref in attempts],
            attempts=[ref[1] for ref in attempts],
            renew=renew,
            claiming=claiming,
            lease_s=self._timing.lease_s,
        )
        row = found.one_or_none()
        if row is None:
            return None
        refs = zip(row.executions, row.attempts, strict=True)
        return Seen(
            host=Host(row.runtimes, row.labels, row.resources, row.allowed_images),
            held=dict(zip(refs, row.cancelled, strict=True)),
            shapes=row.shapes,
        )

    async def claim(self, tx: Tx, runner_id: str, request: ClaimRequest, seen: Seen) -> list[Claimed]:
        """Claim what fits into ``request``'s free capacity, best first, in one round trip.

        ``tx`` must hold the runner's row (``seen``). The same request id gets the same attempts again. GPUs are
        counted, not dealt out: a host with several models may get executions of two shapes that want the same one;
        its runner lets the later wait.
        """
        free = request["free"]
        fitting = [
            (needs, most)
            for needs in await self._needs_of(tx, seen.shapes)
            if (most := needs.at_once(free, seen.host.resources))
            and not misfit(needs.runtime, needs.resources, seen.host)
        ]
        rows = list(
            await tx.run(
                "claim",
                runner_id=runner_id,
                request_id=request["request_id"],
                lease_s=self._timing.lease_s,
                shapes=[needs.shape for needs, _ in fitting],
                cpus=[needs.resources["cpu_millis"] for needs, _ in fitting],
                memories=[needs.resources["memory"] for needs, _ in fitting],
                disks=[needs.resources["disk"] for needs, _ in fitting],
                gpuses=[gpus.wanted(needs.resources) for needs, _ in fitting],
                mosts=[most for _, most in fitting],
                slots=free["slots"],
                cpu=free["cpu_millis"],
                memory=free["memory"],
                disk=free["disk"],
                gpus=len(free["gpus"]),
            )
        )
        for row in rows:
            if row.fresh:
                _tell(tx, row, runner_id)
        return [_claimed(row) for row in rows]

    async def _needs_of(self, tx: Tx, shapes: Sequence[str]) -> list[Needs]:
        unknown = [shape for shape in shapes if shape not in self._needs]
        if unknown:
            if len(self._needs) > _SHAPES_KEPT:
                self._needs.clear()
                unknown = list(shapes)
            for row in await tx.run("shapes_by_id", ids=unknown):
                self._needs[row.shape] = Needs(row.shape, row.runtime, row.resources)
        return [self._needs[shape] for shape in shapes if shape in self._needs]


def _tell(tx: Tx, row: Any, runner_id: str) -> None:
    tx.event(
        "execution.started",
        project_id=row.project_id,
        batch_id=row.batch_id,
        execution_id=row.id,
        data={"attempt": row.attempt, "index": row.item_index, "runner_id": runner_id},
    )
    tx.notify(f"b:{row.batch_id}", f"l:{row.id}")
    if row.passed_over:
        # Rows that were locked and left were invisible to other runners meanwhile.
        tx.notify("q")


def _claimed(row: Any) -> Claimed:
    return Claimed(
        execution_id=row.id,
        attempt=row.attempt,
        batch_id=row.batch_id,
        project_id=row.project_id,
        index=row.item_index,
        item=row.item,
    )
