"""What runner and API say to each other: register, poll, report, outputs, finish (and blobs, stdin).

Every message names the attempt it speaks of; an attempt that is not the live one is answered as stale, and the
runner kills that work and forgets it. Every message may be repeated after a lost reply.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from annotated_types import Ge, Le, Len
from typing_extensions import TypedDict

from rgrid_shared.specs import Item, Spec
from rgrid_shared.states import FailureClass
from rgrid_shared.wire import Base64, Bytes, Count, RelPath, Sha256, ShortText, Time, closed


@closed
class Gpu(TypedDict):
    """One GPU of a host. ``index``: as ``nvidia-smi`` counts.

    ``driver`` and ``cuda``: versions of the host's driver, and of the newest CUDA that it runs. Those and ``uuid`` are
    lacking in what runners of earlier releases registered.
    """

    index: Count
    model: str
    memory: Bytes
    uuid: NotRequired[str]
    driver: NotRequired[str]
    cuda: NotRequired[str]


@closed
class HostResources(TypedDict):
    """What a host has."""

    cpu_millis: Count
    memory: Bytes
    disk: Bytes
    gpus: list[Gpu]


@closed
class RegisterRequest(TypedDict):
    """``POST /v1/runners``. ``runner_id``: what this runner was called before, or None.

    ``runtimes``: name → full version, for example ``{"python3.11": "3.11.7"}``; empty if nobody has asked yet.
    ``images``: name → image of those that are one. ``allowed_images``: patterns of images that specs may name.
    """

    runner_id: str | None
    name: ShortText
    backend: ShortText
    version: ShortText
    slots: Annotated[int, Ge(1), Le(4096)]
    labels: dict[str, str]
    runtimes: dict[str, str]
    images: NotRequired[dict[str, str]]
    allowed_images: NotRequired[Annotated[list[ShortText], Len(0, 100)]]
    resources: HostResources


class RegisterReply(TypedDict):
    """Times in seconds: lease length, poll interval, freeze after this long without an acknowledged poll."""

    runner_id: str
    lease_s: float
    poll_s: float
    fence_s: float


@closed
class AttemptRef(TypedDict):
    """One attempt."""

    execution_id: str
    attempt: Annotated[int, Ge(1)]


@closed
class Capacity(TypedDict):
    """What a runner has free and offers in this request. ``cpu_millis``/``memory``/… : after everything that runs.

    ``gpus``: the index of each free GPU, as often as it takes executions.
    """

    slots: Count
    cpu_millis: Count
    memory: Bytes
    disk: Bytes
    gpus: Annotated[list[Count], Len(0, 4096)]


@closed
class ClaimRequest(TypedDict):
    """An offer of capacity. Repeating a ``request_id`` gives the same claims again."""

    request_id: Annotated[str, Len(8, 64)]
    free: Capacity


@closed
class PollRequest(TypedDict):
    """``POST /v1/runners/{id}/poll``: renews the leases of exactly ``attempts``, claims, fetches commands.

    The answer comes at once if there is something to say, or after ``wait_s`` seconds.
    """

    attempts: list[AttemptRef]
    claim: ClaimRequest | None
    wait_s: Annotated[float, Ge(0), Le(30)]
    draining: bool


class BlobUrl(TypedDict):
    """Where a blob's bytes are: ``size`` bytes at ``offset`` of the object behind ``url`` (a Range request)."""

    sha256: Sha256
    size: Bytes
    offset: Bytes
    url: str


class Upload(TypedDict):
    """Where to put an object: one PUT to ``urls[0]``, or part *i* of ``part_size`` bytes to ``urls[i]``.

    ``multipart`` uploads need the etag of each part when they are completed. ``expires_at`` is when the URLs end.
    """

    id: str
    key: str
    multipart: bool
    part_size: Bytes
    urls: list[str]
    expires_at: Time


class Claim(TypedDict):
    """One attempt that is now this runner's. ``batch_id`` finds the spec in ``PollReply.specs``.

    ``blobs``: presigned GETs of the item's files. ``pack``: where small outputs may be put in one object, if the
    attempt ends before it expires. ``log_limit``: bytes of log kept.
    """

    execution_id: str
    attempt: int
    project_id: str
    batch_id: str
    index: int
    item: Item
    blobs: list[BlobUrl]
    pack: Upload
    log_limit: Bytes
    timeout_s: float | None


class ClaimedSpec(TypedDict):
    """A batch's spec, its environment values in clear, and presigned GETs of its files."""

    spec: Spec
    env: dict[str, str]
    blobs: list[BlobUrl]


class Kill(TypedDict):
    """Stop this attempt. ``stale``: it is not ours any more, forget it without a report."""

    execution_id: str
    attempt: int
    reason: Literal[FailureClass.CANCELLED, "stale"]


class PollReply(TypedDict):
    """``granted``: attempts whose lease was renewed. ``specs``: by batch id, for every claim in ``claims``."""

    granted: list[AttemptRef]
    kill: list[Kill]
    claims: list[Claim]
    specs: dict[str, ClaimedSpec]


@closed
class LogChunk(TypedDict):
    """Bytes as the script wrote them. ``seq`` counts from 1 over all streams of an attempt without a gap.

    ``stream``: a ``Stream`` value. ``at``: when the runner read the last byte.
    """

    seq: Annotated[int, Ge(1)]
    stream: str
    at: Time
    data: Base64


@closed
class AttemptReport(TypedDict):
    """News of one attempt: its phase (a ``Phase`` value), when the script started, and new log chunks in order."""

    execution_id: str
    attempt: Annotated[int, Ge(1)]
    phase: str
    started_at: Time | None
    chunks: list[LogChunk]


@closed
class ReportRequest(TypedDict):
    """``POST /v1/runners/{id}/report``: news of any number of attempts."""

    reports: list[AttemptReport]


class ReportAnswer(TypedDict):
    """``next_seq``: the first log sequence number that the API does not have. ``stale``: forget the attempt."""

    execution_id: str
    attempt: int
    next_seq: int
    stale: bool


class ReportReply(TypedDict):
    """One answer for each report, in the same order."""

    answers: list[ReportAnswer]


@closed
class OutputsRequest(TypedDict):
    """``POST /v1/runners/{id}/outputs``: upload places for objects of these sizes."""

    execution_id: str
    attempt: Annotated[int, Ge(1)]
    sizes: Annotated[list[Bytes], Len(1, 1000)]


class OutputsReply(TypedDict):
    """One place for each size, in order."""

    uploads: list[Upload]


@closed
class BlobUrlsRequest(TypedDict):
    """``POST /v1/runners/{id}/blobs``: fresh presigned GETs for blobs of a claimed attempt."""

    execution_id: str
    attempt: Annotated[int, Ge(1)]
    sha256: Annotated[list[Sha256], Len(1, 10_000)]


class BlobUrlsReply(TypedDict):
    """``missing``: what the grid does not have."""

    blobs: list[BlobUrl]
    missing: list[str]


@closed
class OutputEntry(TypedDict):
    """One line of the manifest.

    ``kind``: ``file`` (bytes are ``size`` bytes at ``offset`` of object number ``object``), ``dir`` (new and empty, or
    with changed mode), ``link`` (``target``, relative, inside the workspace) or ``deleted``.
    """

    path: RelPath
    kind: Literal["file", "dir", "link", "deleted"]
    mode: Annotated[int, Ge(0), Le(0o777)]
    size: Bytes
    sha256: str
    object: Annotated[int, Ge(-1)]
    offset: Bytes
    target: str


@closed
class LeftOut(TypedDict):
    """Something that was not collected, and why."""

    path: str
    reason: str


@closed
class OutputObject(TypedDict):
    """An uploaded object: its key, length, and the etags if it was multipart (with ``upload_id``)."""

    key: str
    size: Bytes
    upload_id: NotRequired[str]
    etags: NotRequired[list[str]]


@closed
class Manifest(TypedDict):
    """What an attempt left behind."""

    entries: Annotated[list[OutputEntry], Len(0, 200_000)]
    objects: list[OutputObject]
    left_out: Annotated[list[LeftOut], Len(0, 1000)]


@closed
class Usage(TypedDict):
    """Measured by the runner: milliseconds and bytes. ``prepare_ms``/``deliver_ms``: grid time around the script.

    ``read_bytes``/``written_bytes``: from and to disks, as far as the backend can tell. ``gpu_percent``: how busy the
    attempt's GPUs were, the mean over its time. ``gpu_memory``: the most bytes in use on all of them together.
    """

    wall_ms: Count
    cpu_ms: Count
    max_rss: Bytes
    prepare_ms: Count
    deliver_ms: Count
    read_bytes: NotRequired[Bytes]
    written_bytes: NotRequired[Bytes]
    gpu_percent: NotRequired[Annotated[int, Ge(0), Le(100)]]
    gpu_memory: NotRequired[Bytes]


@closed
class StreamTotal(TypedDict):
    """All bytes of one stream: how many were written, and the SHA-256 of those that were kept.

    ``truncated``: bytes over the log limit that were not kept.
    """

    stream: str
    kept: Bytes
    truncated: Bytes
    sha256: Sha256


@closed
class FinishReport(TypedDict):
    """How an attempt ended.

    ``failure``: a ``FailureClass`` value, or None if it succeeded. ``exit_code``: as a shell reports it (128 + signal),
    None if the script never ran. ``message``: one sentence or the last lines of stderr, ≤ 4 KiB, for people.
    ``bad_blobs``: hashes whose bytes were missing or wrong. ``last_seq``: the last log sequence number.
    ``layer``: key of the dependency layer, or empty.
    """

    execution_id: str
    attempt: Annotated[int, Ge(1)]
    failure: str | None
    exit_code: Annotated[int, Ge(0), Le(255)] | None
    signal: Annotated[int, Ge(1), Le(64)] | None
    message: Annotated[str, Len(0, 8192)]
    started_at: Time | None
    ended_at: Time | None
    usage: Usage
    manifest: Manifest
    last_seq: Count
    streams: list[StreamTotal]
    bad_blobs: list[Sha256]
    layer: str


@closed
class FinishRequest(TypedDict):
    """``POST /v1/runners/{id}/finish``: ends attempts and, in the same round trip, offers the slots they freed."""

    reports: list[FinishReport]
    claim: ClaimRequest | None


class FinishAnswer(TypedDict):
    """What became of a finish report.

    ``accepted``: the attempt is ended and may be forgotten. ``next_seq`` ≤ ``last_seq``: log is missing, ship from
    there and finish again. ``stale``: not the live attempt, forget it. ``error``: refused for now, and why.
    """

    execution_id: str
    attempt: int
    accepted: bool
    stale: bool
    next_seq: int
    error: str


class FinishReply(TypedDict):
    """Answers in the order of the reports, and new claims."""

    answers: list[FinishAnswer]
    claims: list[Claim]
    specs: dict[str, ClaimedSpec]


@closed
class StdinQuery(TypedDict):
    """``POST /v1/runners/{id}/stdin``: chunks after ``after``; waits up to ``wait_s`` for one."""

    execution_id: str
    attempt: Annotated[int, Ge(1)]
    after: Count
    wait_s: Annotated[float, Ge(0), Le(30)]


class StdinPart(TypedDict):
    """One stdin chunk."""

    seq: int
    data: Base64
    eof: bool


class StdinReply(TypedDict):
    """Chunks in order, possibly none yet."""

    chunks: list[StdinPart]
