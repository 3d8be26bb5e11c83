"""A queue on a fresh database: batches straight into tables, runners without HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from rgrid_api import auth
from rgrid_api.batches.shapes import shape_of
from rgrid_api.db.session import Database, Tx, to_json
from rgrid_api.new_ids import new_id, new_ids
from rgrid_api.queue.claiming import Claimed
from rgrid_api.queue.ending import Ended, end_attempts, standings
from rgrid_api.queue.outcome import Outcome, Ref
from rgrid_api.queue.promoter import Promoter
from rgrid_api.queue.queue import Queue
from rgrid_api.queue.timing import Timing
from rgrid_shared.ids import Kind
from rgrid_shared.protocol import Capacity
from rgrid_shared.specs import Resources, Spec
from rgrid_shared.states import FailureClass, Status
from support.control_plane import item, spec

PLENTY: Capacity = {"slots": 1000, "cpu_millis": 10**9, "memory": 10**15, "disk": 10**15, "gpus": [0, 1, 2, 3] * 16}
USAGE = {"wall_ms": 1, "cpu_ms": 1, "max_rss": 1, "prepare_ms": 0, "deliver_ms": 0}


def free(slots: int, **changes: Any) -> Capacity:
    """Room for ``slots`` executions, and plenty of everything else unless said otherwise."""
    return {**PLENTY, "slots": slots, **changes}  # type: ignore[typeddict-item]


def needing(**changes: Any) -> Spec:
    """A spec that needs something of its host."""
    base: Resources = spec()["resources"]
    return spec(resources={**base, **changes})


@dataclass
class QueueGrid:
    """One queue, its database, and a few shorthands."""

    database: Database
    queue: Queue
    project_id: str
    token_id: str

    async def run(self, statement: str, **params: object) -> list[Any]:
        """Rows of any statement, committed."""
        async with self.database.transaction() as tx:
            result = await tx.conn.execute(text(statement), params)
            return list(result) if result.returns_rows else []

    async def batch(self, count: int, *, sealed: bool = True, what: Spec | None = None, **columns: object) -> str:
        """A batch of ``count`` items; ``columns`` are those of its row."""
        what = what or spec()
        batch_id = new_id(Kind.BATCH)
        shape = shape_of(what)
        row = {
            "id": batch_id,
            "project_id": self.project_id,
            "name": "",
            "script": "s.py",
            "script_sha256": "0" * 64,
            "runtime": what["runtime"],
            "spec": to_json(what),
            "metadata": "{}",
            "single": count == 1,
            "total": count,
            "received": count,
            "shape": shape,
            "priority": 0,
            "body_sha256": "0" * 64,
            **columns,
        }
        async with self.database.transaction() as tx:
            names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
            await tx.conn.execute(text(f"INSERT INTO batches ({names}) VALUES ({values})"), row)
            await tx.run(
                "executions_insert",
                batch_id=batch_id,
                project_id=row["project_id"],
                first=0,
                ids=new_ids(Kind.EXECUTION, count),
                items=[to_json(item(index)) for index in range(count)],
                shape=shape,
                priority=row["priority"],
            )
            if sealed:
                await self.queue.seal(tx, batch_id)
        return batch_id

    async def project(self, name: str) -> str:
        """Another project."""
        async with self.database.transaction() as tx:
            return await auth.ensure_project(tx, name)

    async def runner(self, **changes: Any) -> str:
        """A registered runner with plenty of everything."""
        row = {
            "id": new_id(Kind.RUNNER),
            "token_id": self.token_id,
            "label": "r",
            "backend": "process",
            "version": "0",
            "slots": 1000,
            "labels": {},
            "runtimes": {"python3.11": "3.11.7"},
            "images": {},
            "allowed_images": [],
            "resources": {
                "cpu_millis": 10**9,
                "memory": 10**15,
                "disk": 10**15,
                "gpus": [{"index": n, "model": "NVIDIA A100", "memory": 40 << 30} for n in range(4)],
            },
            **changes,
        }
        for name in ("labels", "runtimes", "images", "allowed_images", "resources"):
            row[name] = to_json(row[name])
        async with self.database.transaction() as tx:
            await tx.run("runner_register", **row)
        return str(row["id"])

    async def claim(self, runner_id: str, room: Capacity | int, request_id: str = "") -> list[Claimed]:
        """One offer of capacity."""
        offer = {
            "request_id": request_id or secrets.token_hex(8),
            "free": free(room) if isinstance(room, int) else room,
        }
        async with self.database.transaction() as tx:
            seen = await self.queue.claims.seen(tx, runner_id, self.token_id, attempts=[], renew=False, claiming=True)
            assert seen is not None
            return await self.queue.claims.claim(tx, runner_id, offer, seen)  # type: ignore[arg-type]

    async def finish(
        self, runner_id: str | None, refs: Sequence[Ref], failure: FailureClass | None = None, **changes: Any
    ) -> dict[Ref, Ended]:
        """End attempts as their runner would report them."""
        outcomes = [
            Outcome(*ref, failure, **{"exit_code": 0 if failure is None else 1, "usage": USAGE, **changes})
            for ref in refs
        ]
        async with self.database.transaction() as tx:
            return await end_attempts(tx, runner_id, outcomes, await standings(tx, list(refs)))

    async def renew(self, runner_id: str, refs: Sequence[Ref]) -> dict[Ref, bool]:
        """A poll that claims nothing."""
        async with self.database.transaction() as tx:
            seen = await self.queue.claims.seen(
                tx, runner_id, self.token_id, attempts=refs, renew=True, claiming=False, draining=False
            )
            assert seen is not None
            return dict(seen.held)

    async def counts(self, batch_id: str) -> dict[Status, int]:
        """How many of a batch's latest executions stand in each status."""
        rows = await self.run(
            "SELECT status, count(*) FROM executions WHERE batch_id = :b AND latest GROUP BY 1", b=batch_id
        )
        return {Status(status): number for status, number in rows}

    async def column(self, batch_id: str, name: str) -> Any:
        """One column of a batch's row."""
        return (await self.run(f"SELECT {name} FROM batches WHERE id = :b", b=batch_id))[0][0]

    async def promote(self) -> int:
        """One round of the promoter."""
        return await Promoter(self.database).run_once()

    async def locked(self, tx: Tx, batch_id: str) -> None:
        """Hold a batch's row."""
        await tx.run("batches_lock", ids=[batch_id])


def refs(claimed: Sequence[Claimed]) -> list[Ref]:
    """The attempts of these claims."""
    return [(claim.execution_id, claim.attempt) for claim in claimed]


@pytest.fixture
async def queue(database: Database) -> QueueGrid:
    """A queue with one project and one runner token."""
    async with database.transaction() as tx:
        project_id = await auth.ensure_project(tx, "one")
        token_id = await auth.ensure_runner_token(tx, auth.new_secret(auth.TOKEN_PREFIX), "test")
    return QueueGrid(database, Queue(database, Timing()), project_id, token_id)
