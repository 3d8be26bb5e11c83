"""What the API answers to users."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from rgrid_shared.protocol import HostResources, LeftOut, LogChunk, OutputEntry, Upload, Usage
from rgrid_shared.specs import Item, Spec
from rgrid_shared.wire import Time


class MetaView(TypedDict):
    """``GET /v1/meta``."""

    version: str
    api: int
    project_id: str
    project: str


class MissingReply(TypedDict):
    """Hashes that this project does not have."""

    missing: list[str]


class UploadsReply(TypedDict):
    """One place for each request, in order."""

    uploads: list[Upload]


class UploadsDoneReply(TypedDict):
    """``stored``: how many blobs are now known by their hash."""

    stored: int


class Counts(TypedDict):
    """How many items stand in each status (each item's latest execution)."""

    blocked: int
    pending: int
    queued: int
    running: int
    succeeded: int
    failed: int
    timed_out: int
    cancelled: int
    skipped: int


class BatchView(TypedDict):
    """A batch. ``done``: every item has ended. ``first_execution_id``: of item 0, empty while items are arriving."""

    id: str
    name: str
    script: str
    runtime: str
    single: bool
    total: int
    counts: Counts
    done: bool
    parallel: int | None
    max_fails: int | None
    canary: int | None
    priority: int
    metadata: dict[str, str]
    created_at: Time
    sealed_at: Time | None
    started_at: Time | None
    ended_at: Time | None
    cancel_requested_at: Time | None
    first_execution_id: str
    hold: str


class BatchDetail(BatchView):
    """A batch with its spec."""

    spec: Spec


class AttemptView(TypedDict):
    """One try at an execution."""

    attempt: int
    runner_id: str
    runner: str
    phase: str
    claimed_at: Time
    started_at: Time | None
    ended_at: Time | None
    exit_code: int | None
    failure: str | None
    message: str
    usage: Usage | None
    log_bytes: int


class ExecutionView(TypedDict):
    """An execution. ``phase`` is empty unless it runs. ``latest``: no retry has taken its place.

    ``reason``: why it stands where it stands, one sentence.
    """

    id: str
    batch_id: str
    index: int
    name: str
    output_name: str
    status: str
    phase: str
    attempt: int
    exit_code: int | None
    failure: str | None
    message: str
    reason: str
    runner: str
    latest: bool
    retry_of: str | None
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    not_before: Time | None
    log_bytes: int
    output_files: int
    output_bytes: int
    version: int


class ExecutionDetail(ExecutionView):
    """An execution with its item, its batch's spec and all attempts.

    ``packages``: exactly what was installed for it, one ``name==version`` each; empty while that is not known.
    """

    item: Item
    spec: Spec
    script: str
    attempts: list[AttemptView]
    packages: list[str]


class LockView(TypedDict):
    """``GET /v1/executions/{id}/lock``: the exact packages that an execution had, with hashes, and its runtime."""

    execution_id: str
    runtime: str
    lines: list[str]
    options: list[str]


class BatchPage(TypedDict):
    """``next``: cursor of the next page, or None."""

    batches: list[BatchView]
    next: str | None


class ExecutionPage(TypedDict):
    """``next``: cursor of the next page, or None."""

    executions: list[ExecutionView]
    next: str | None


class LogPage(TypedDict):
    """Log chunks of ``attempt`` … ``next``: ``ATTEMPT:SEQ`` to go on after. ``ended``: nothing will follow."""

    chunks: list[LogChunkView]
    next: str
    ended: bool


class LogChunkView(LogChunk):
    """A log chunk and the attempt that it belongs to."""

    attempt: int


class OutputObjectView(TypedDict):
    """An object that holds output bytes, with a presigned GET."""

    size: int
    url: str


class OutputsView(TypedDict):
    """The manifest of an execution's accepted attempt. ``entries[i].object`` indexes ``objects``."""

    execution_id: str
    batch_id: str
    index: int
    output_name: str
    attempt: int
    entries: list[OutputEntry]
    objects: list[OutputObjectView]
    left_out: list[LeftOut]


class OutputsPage(TypedDict):
    """``next``: cursor of the next page, or None."""

    outputs: list[OutputsView]
    next: str | None


class Changed(TypedDict):
    """How many executions a command changed, and the new ones that it made."""

    changed: int
    executions: list[str]


class KeyView(TypedDict):
    """An API key without its secret. ``prefix``: its first characters."""

    id: str
    name: str
    prefix: str
    created_at: Time
    last_used_at: Time | None
    expires_at: Time | None
    revoked_at: Time | None


class NewKeyView(KeyView):
    """A key as it was just made: the one time that its secret is shown."""

    secret: str


class KeysPage(TypedDict):
    """All keys of the project."""

    keys: list[KeyView]


class RunnerView(TypedDict):
    """A runner. ``state``: ``online``, ``draining`` or ``offline`` (no poll for a lease's length)."""

    id: str
    name: str
    state: Literal["online", "draining", "offline"]
    backend: str
    version: str
    slots: int
    busy: int
    labels: dict[str, str]
    runtimes: dict[str, str]
    resources: HostResources
    registered_at: Time
    last_seen_at: Time


class RunnersPage(TypedDict):
    """All runners of the grid."""

    runners: list[RunnerView]


class RuntimeView(TypedDict):
    """What a script can be run in. ``runners``: how many that are online offer it; others have in the last day.

    ``versions``: of its interpreter, newest first, as the runners tell; empty if none has used it yet. ``images``: what
    it is on runners with containers. ``language``: of the scripts that it is for, empty if for any.
    """

    name: str
    language: str
    versions: list[str]
    images: list[str]
    runners: int


class RuntimesPage(TypedDict):
    """``GET /v1/runtimes``. ``allowed_images``: patterns of images that may be named instead of a runtime."""

    runtimes: list[RuntimeView]
    allowed_images: list[str]


class EventView(TypedDict):
    """Something that happened. ``cursor`` resumes a feed after this event."""

    cursor: str
    kind: str
    at: Time
    batch_id: str | None
    execution_id: str | None
    data: dict[str, object]


class EventsPage(TypedDict):
    """Events in the feed's order. ``next``: cursor to go on after; the same as before if there is nothing new."""

    events: list[EventView]
    next: str


class Activity(TypedDict):
    """``GET /v1/activity``: executions that have not ended, seconds since the last request of a user."""

    open_executions: int
    idle_s: float


class Health(TypedDict):
    """``GET /healthz`` and ``/readyz``: ``ok`` and one word for each part."""

    ok: bool
    version: str
    parts: dict[str, str]


class Hello(TypedDict):
    """First message of every WebSocket."""

    type: Literal["hello"]
    api: int


class LogMessage(LogChunkView):
    """A log chunk on a WebSocket."""

    type: Literal["log"]
    execution_id: str


class ExecutionMessage(TypedDict):
    """Executions whose state is new to this follower, with their outputs once they have ended and it asked for them."""

    type: Literal["executions"]
    executions: list[ExecutionView]
    outputs: list[OutputsView]


class BatchMessage(TypedDict):
    """The batch's counts have changed."""

    type: Literal["batch"]
    batch: BatchView


class EventMessage(TypedDict):
    """One event."""

    type: Literal["event"]
    event: EventView


class HeartbeatMessage(TypedDict):
    """Nothing to say, still there: at least every 15 seconds."""

    type: Literal["heartbeat"]


class EndMessage(TypedDict):
    """Nothing will follow."""

    type: Literal["end"]


class ProblemMessage(TypedDict):
    """The subscription failed; the socket closes after it."""

    type: Literal["problem"]
    status: int
    code: str
    detail: str
    hint: str


FollowMessage = (
    Hello | LogMessage | ExecutionMessage | BatchMessage | EventMessage | HeartbeatMessage | EndMessage | ProblemMessage
)
