"""Which runners there are, and which token each one comes with."""

from __future__ import annotations

from typing import Any, Final

from rgrid_api.db.session import Database, Tx, to_json
from rgrid_api.new_ids import new_id
from rgrid_api.settings import Settings
from rgrid_api.times import to_wire
from rgrid_shared.errors import Forbidden, InvalidRequest, NotFound
from rgrid_shared.ids import Kind, is_whole
from rgrid_shared.protocol import RegisterReply, RegisterRequest
from rgrid_shared.views import RunnersPage, RunnerView

PROCESS_BACKEND: Final = "process"
REGISTER_HINT: Final = "register again"


async def register(database: Database, settings: Settings, token_id: str, request: RegisterRequest) -> RegisterReply:
    """Make a runner known, under its old id if it has one that is this token's.

    Raises Forbidden for a backend without isolation unless the grid allows it.
    """
    if request["backend"] == PROCESS_BACKEND and not settings.allow_process_backend:
        raise Forbidden(
            "this grid takes no runners with the process backend: their scripts are not isolated from the host",
            hint="use the docker backend, or start the API with RGRID_ALLOW_PROCESS_BACKEND=true",
        )
    old = request["runner_id"]
    if old is not None and not is_whole(old, Kind.RUNNER):
        raise InvalidRequest(f"{old!r} is not the id of a runner")
    async with database.transaction() as tx:
        runner_id = None if old is None else await _register(tx, token_id, old, request)
        if runner_id is None:
            # New, or its old id is another token's.
            runner_id = await _register(tx, token_id, new_id(Kind.RUNNER), request)
    assert runner_id is not None
    timing = settings.timing
    return {
        "runner_id": runner_id,
        "lease_s": timing.lease_s,
        "poll_s": timing.poll_s,
        "fence_s": timing.fence_s,
    }


async def _register(tx: Tx, token_id: str, runner_id: str, request: RegisterRequest) -> str | None:
    """The id, or None if it is another token's."""
    found = await tx.run(
        "runner_register",
        id=runner_id,
        token_id=token_id,
        label=request["name"],
        backend=request["backend"],
        version=request["version"],
        slots=request["slots"],
        labels=to_json(request["labels"]),
        runtimes=to_json(request["runtimes"]),
        images=to_json(request.get("images", {})),
        allowed_images=to_json(request.get("allowed_images", [])),
        resources=to_json(request["resources"]),
    )
    made: str | None = found.scalar_one_or_none()
    return made


class Owners:
    """Which token each runner registered with; remembered, since it never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tokens: dict[str, str] = {}

    async def check(self, runner_id: str, token_id: str) -> None:
        """Raises NotFound if the runner is unknown or came with another token."""
        if runner_id not in self._tokens:
            async with self._database.read() as tx:
                found = (await tx.run("runner_token_of", runner_id=runner_id)).scalar_one_or_none()
            if found is not None:
                self._tokens[runner_id] = found
        if self._tokens.get(runner_id) != token_id:
            raise unknown_runner(runner_id)


def unknown_runner(runner_id: str) -> NotFound:
    """The error for a runner that is not known under this token."""
    return NotFound(f"no runner {runner_id[:40]!r} is registered with this token", hint=REGISTER_HINT)


async def list_runners(database: Database, lease_s: float) -> RunnersPage:
    """All runners heard of in the last seven days. ``lease_s``: one that is silent for longer is offline."""
    async with database.read() as tx:
        rows = (await tx.run("runners_listed", lease_s=lease_s)).all()
    return {"runners": [_view(row) for row in rows]}


def _view(row: Any) -> RunnerView:
    return {
        "id": row.id,
        "name": row.name,
        "state": "offline" if not row.online else "draining" if row.draining else "online",
        "backend": row.backend,
        "version": row.version,
        "slots": row.slots,
        "busy": row.busy,
        "labels": row.labels,
        "runtimes": row.runtimes,
        "resources": row.resources,
        "registered_at": to_wire(row.registered_at),
        "last_seen_at": to_wire(row.last_seen_at),
    }
