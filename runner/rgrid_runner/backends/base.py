"""The seam between the agent and whatever runs scripts: *start → stream → wait → freeze/kill → clean*.

A backend knows nothing of HTTP, leases or blobs. It is given an order that says what to run, and owns that run until
``clean``. What it owns outlives the agent: a successor's ``open`` finds every run that was not cleaned, still running
or ended, and goes on with it. ``tests/contract/backends`` holds every implementation to what is written here.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final, Literal

from rgrid_runner.files import remove_tree
from rgrid_shared.errors import RgridError
from rgrid_shared.states import FailureClass, Stream

CHUNK_BYTES: Final = 64 * 1024
"""No chunk is longer."""
TAIL_BYTES: Final = 4096
"""How much of the end of stderr ``Exit.stderr_tail`` holds at most."""
LOST_AFTER_S: Final = 3600.0
"""A run whose lease ended this long ago (CLOCK_BOOTTIME) is killed by whatever holds it, agent or no agent."""


class BackendError(RgridError):
    """A run could not be started; ``failure`` says whose fault that is."""

    code = "backend"
    title = "The script could not be started"

    def __init__(self, message: str, failure: FailureClass, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.failure = failure


class UnknownRun(KeyError):
    """No run has this key: it was never started here, or it was cleaned."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is present. ``id``: of its content; ``env``: the environment that it sets."""

    id: str
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the host, ``source``, that a container sees at ``target`` (absolute)."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """What a container for a run is like; a backend without containers does not look at it.

    ``image``: id of an image that is present. ``batch``: runs of one batch may use one container one after another,
    and never those of two. ``network``: False is no network at all. ``gpus``: device ids, as NVML calls them (UUID).
    ``isolate``: a fresh container for this run alone. ``warm``: the script may be forked from an interpreter that is
    kept for the batch. ``mounts``: in order, a later one may lie below an earlier. ``tmp`` and ``shm``: bytes of
    ``/tmp`` and ``/dev/shm``, 0 for the backend's default.
    """

    image: str
    batch: str
    network: bool = True
    gpus: tuple[str, ...] = ()
    isolate: bool = False
    warm: bool = False
    mounts: tuple[Mount, ...] = ()
    tmp: int = 0
    shm: int = 0


@dataclass(frozen=True, slots=True)
class StartOrder:
    """What to run.

    ``key``: ``<execution_id>.<attempt>``, unique for good. ``env``: the whole environment, nothing is added.
    ``argv[0]`` and ``cwd`` are as the script sees them: in a container, paths of that.
    ``spool``: a directory that belongs to this run until ``clean`` removes it; made if it is not there.
    ``timeout_s``: script time from exec; frozen time and the host's sleep do not count. None: no limit.
    ``grace_s``: from TERM to KILL. ``stdin``: a file, ``"stream"`` (fed by ``feed``) or None (empty).
    ``memory`` (bytes) and ``cpu_millis``: 0 = no limit. ``log_limit``: bytes of log kept over all streams.
    ``lease_until``: as for ``renew``, from the first moment on.
    """

    key: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    spool: Path
    timeout_s: float | None
    grace_s: float
    stdin: Path | Literal["stream"] | None
    memory: int
    cpu_millis: int
    log_limit: int
    lease_until: float | None = None
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """At most ``CHUNK_BYTES`` as the script wrote them.

    ``seq`` counts from 1 over all streams without a gap. ``at_us``: microseconds since 1970 (UTC) when they were read.
    """

    seq: int
    stream: Stream
    at_us: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamTotals:
    """Bytes of one stream: how many chunks of it carry (``kept``, with their SHA-256), how many were cut off."""

    stream: Stream
    kept: int
    truncated: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended. When it exists, nothing that the script started runs any more.

    ``failure``: None if and only if the script exited with 0 by itself. ``exit_code``: as a shell reports it (128 +
    signal); None if it is not known. ``message``: one sentence for people. ``cpu_ms``, ``max_rss``, ``read_bytes`` and
    ``written_bytes`` (from and to disks): the script and what it started. ``streams``: one for each ``Stream`` that
    has chunks or cut-off bytes. ``last_seq``: the last chunk's number, 0 if there is none. ``stderr_tail``: the end of
    stderr, even when the log limit cut it from the chunks.
    """

    exit_code: int | None
    signal: int | None
    failure: FailureClass | None
    message: str
    started_at: datetime
    ended_at: datetime
    wall_ms: int
    cpu_ms: int
    max_rss: int
    streams: tuple[StreamTotals, ...]
    last_seq: int
    stderr_tail: str
    read_bytes: int = 0
    written_bytes: int = 0


class Backend(ABC):
    """Runs scripts. What takes a key, but for ``start``, raises ``UnknownRun`` for one that it does not know."""

    name: ClassVar[str]
    owner: int | None = None
    """The user and group id that a script's files must belong to; None: the agent's own."""

    async def image(self, reference: str, say: Callable[[str], None]) -> Image | None:
        """The image that ``reference`` names, fetched if it has to be, which ``say`` tells; None without containers.

        BackendError: it cannot be had.
        """
        return None

    async def prewarm(self, image: str) -> None:  # noqa: B027 - most have nothing to warm
        """Expect runs in this image (an id) soon. BackendError."""

    async def prepare(self, directory: Path, disk: int) -> None:
        """Make ``directory``, which holds what a run may write. ``disk``: its bytes, 0 for the backend's default."""
        directory.mkdir(parents=True, exist_ok=True)

    async def clear(self, directory: Path) -> None:
        """Take back what ``prepare`` made, with everything in it. No-op if there is nothing."""
        await asyncio.to_thread(remove_tree, directory)

    @abstractmethod
    async def open(self) -> list[str]:
        """Take over what an earlier agent left; the keys of all runs that are not cleaned, running or ended."""

    @abstractmethod
    async def start(self, order: StartOrder) -> datetime:
        """Start a script; returns the time (UTC) once its process exists. BackendError if it cannot be started."""

    @abstractmethod
    def stream(self, key: str, after: int) -> AsyncIterator[Chunk]:
        """The chunks numbered ``after + 1`` and up, as they come; ends after the last one.

        Reading as slowly as one likes is fine: the spool on disk is the buffer.
        """

    @abstractmethod
    async def wait(self, key: str) -> Exit:
        """How the run ended, when it has. May be asked by several and again."""

    @abstractmethod
    async def feed(self, key: str, data: bytes, eof: bool) -> None:
        """Give ``data`` to a ``"stream"`` stdin and, with ``eof``, close it; returns when the script's pipe took it.

        Bytes for a script that closed its stdin or ended are dropped, as a shell's pipe would drop them.
        """

    @abstractmethod
    async def fed(self, key: str) -> int:
        """How many bytes of stdin were taken since the start, so that a successor can go on where the other ended."""

    @abstractmethod
    async def kill(self, key: str, reason: FailureClass) -> None:
        """Ask for the end: TERM, grace, KILL of everything it started. Returns at once; ``wait`` says when it is over.

        A frozen run gets KILL without being thawed. The first reason given becomes ``Exit.failure``, whatever code
        the script then exits with; a run that has already ended stays as it ended.
        """

    @abstractmethod
    async def freeze(self, key: str) -> None:
        """Stop every process of the run where it stands; returns when they stand. No-op for an ended run."""

    @abstractmethod
    async def thaw(self, key: str) -> None:
        """Let a frozen run go on. No-op if it is not frozen."""

    @abstractmethod
    async def renew(self, key: str, until_boottime: float) -> None:
        """Extend the lease to this reading of CLOCK_BOOTTIME (seconds); thaws what an ended lease had frozen.

        A run whose lease ends freezes by itself and ``LOST_AFTER_S`` later is killed (RUNNER_LOST), with or without
        an agent. Without ``StartOrder.lease_until`` there is no lease before the first call.
        """

    @abstractmethod
    async def clean(self, key: str) -> None:
        """Kill what is left of the run, remove its spool and forget it."""

    @abstractmethod
    async def close(self, *, abandon: bool) -> None:
        """Let go of everything. Scripts that run go on and wait for a successor's ``open``.

        Without ``abandon`` it returns only after the helpers of idle slots are gone.
        """
