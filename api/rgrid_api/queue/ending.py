"""The one path on which attempts end: reported by their runner, or given up by the sweeper."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rgrid_api.db.session import Tx, to_json
from rgrid_api.queue.outcome import Outcome, Ref, Standing, Transition, decide
from rgrid_api.queue.promoter import hand_on
from rgrid_shared.states import Status


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that this transaction ended, and the status that its execution has now.

    ``unsettled``: its batch is to be settled after the commit: it counts its failures, or somebody else had its lock.
    """

    execution_id: str
    attempt: int
    batch_id: str
    project_id: str
    index: int
    status: Status
    held: bool
    unsettled: bool


async def standings(tx: Tx, refs: Sequence[Ref]) -> dict[Ref, Standing]:
    """What is known of these attempts; unknown ones are left out."""
    rows = await tx.run("attempts_standing", executions=[ref[0] for ref in refs], attempts=[ref[1] for ref in refs])
    return {
        (row.execution_id, row.attempt): Standing(
            runner_id=row.runner_id,
            live=row.live,
            reported=row.reported,
            log_seq=row.log_seq,
            batch_id=row.batch_id,
            project_id=row.project_id,
            user_retries=row.user_retries,
            infra_retries=row.infra_retries,
            retry=row.retry,
            counted=row.counted,
            now=row.now,
        )
        for row in rows
    }


async def end_attempts(
    tx: Tx, runner_id: str | None, outcomes: Sequence[Outcome], known: Mapping[Ref, Standing]
) -> dict[Ref, Ended]:
    """End these attempts in ``tx``; what is not in the answer was stale.

    ``runner_id`` None is the sweeper, which ends only attempts whose lease is over. ``known`` holds each one's
    standing; without one an attempt is unknown, and stale. Two round trips for any number of attempts and batches.
    """
    if not outcomes:
        return {}
    # Jitter spreads retries; it guards nothing.
    decided = [(o, decide(o.failure, known[o.ref], random.random())) for o in outcomes if o.ref in known]  # noqa: S311
    rows = await tx.run("finish", runner_id=runner_id, **_columns(decided))
    ended = {(row.id, row.attempt): _ended(row, known[row.id, row.attempt]) for row in rows}
    if ended:
        await _settle(tx, ended, known)
    return ended


def _columns(decided: Sequence[tuple[Outcome, Transition]]) -> dict[str, list[Any]]:
    outcomes = [outcome for outcome, _ in decided]
    transitions = [transition for _, transition in decided]
    return {
        "executions": [o.execution_id for o in outcomes],
        "attempts": [o.attempt for o in outcomes],
        "statuses": [str(t.status) for t in transitions],
        "failures": [None if o.failure is None else str(o.failure) for o in outcomes],
        "exit_codes": [o.exit_code for o in outcomes],
        "signals": [o.signal for o in outcomes],
        "messages": [o.message.replace("\0", "") for o in outcomes],
        "starts": [o.started_at for o in outcomes],
        "not_befores": [t.not_before for t in transitions],
        "transients": [t.transient for t in transitions],
        "usages": [_json(o.usage) for o in outcomes],
        "manifests": [_json(o.manifest) for o in outcomes],
        "streams": [_json(o.streams) for o in outcomes],
        "layers": [o.layer for o in outcomes],
        "files": [o.output_files for o in outcomes],
        "bytes": [o.output_bytes for o in outcomes],
    }


def _json(value: object) -> str | None:
    return None if value is None else to_json(value)


def _ended(row: Any, standing: Standing) -> Ended:
    return Ended(
        execution_id=row.id,
        attempt=row.attempt,
        batch_id=row.batch_id,
        project_id=row.project_id,
        index=row.item_index,
        status=Status(row.status),
        held=row.held,
        unsettled=standing.counted or not row.held,
    )


async def _settle(tx: Tx, ended: Mapping[Ref, Ended], known: Mapping[Ref, Standing]) -> None:
    """Hand the freed places on, end batches that have nothing left, and tell everybody."""
    freed: Counter[str] = Counter()
    for ref, end in ended.items():
        # A batch that counts its failures starts nothing before they are counted, which the promoter does.
        failed = end.status is not Status.SUCCEEDED
        freed[end.batch_id] += 0 if failed and known[ref].counted else 1
        kind = "execution.ended" if end.status.final else "execution.retrying"
        tx.event(
            kind,
            project_id=end.project_id,
            batch_id=end.batch_id,
            execution_id=end.execution_id,
            data={"attempt": end.attempt, "index": end.index, "status": str(end.status)},
        )
        tx.notify(f"b:{end.batch_id}", f"l:{end.execution_id}")
    await hand_on(tx, freed, sorted({end.batch_id for end in ended.values() if end.held}))
