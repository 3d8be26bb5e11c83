"""How an attempt ends: failures with a class and a sentence, and the report that says so to the API."""

from __future__ import annotations

import errno
from datetime import datetime
from typing import Final

from rgrid_runner.backends.base import BackendError, Exit
from rgrid_runner.host import wire_time
from rgrid_runner.usage import GpuUse
from rgrid_shared.protocol import FinishReport, Manifest, StreamTotal, Usage
from rgrid_shared.states import FailureClass, Stream

EMPTY_MANIFEST: Final[Manifest] = {"entries": [], "objects": [], "left_out": []}
MESSAGE_BYTES: Final = 4096
NO_GPU: Final = GpuUse()
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


class AttemptFailed(Exception):
    """The attempt cannot go on. ``message`` is for people; ``bad_blobs``: hashes that the store does not hold."""

    def __init__(self, failure: FailureClass, message: str, *, bad_blobs: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message
        self.bad_blobs = bad_blobs


class Stale(Exception):
    """The attempt is not this runner's any more: stop, forget, report nothing."""


def from_backend(error: BackendError) -> AttemptFailed:
    """A backend's refusal to start, in the same words."""
    return AttemptFailed(error.failure, f"{error.message} {error.hint}".strip())


def from_os(error: OSError, doing: str) -> AttemptFailed:
    """An operating-system error while the runner was ``doing`` something for the attempt. A fault of the host."""
    if error.errno in _FULL:
        return AttemptFailed(
            FailureClass.INFRASTRUCTURE, f"The runner's disk is full ({doing}). Its operator has to make room."
        )
    return AttemptFailed(FailureClass.INFRASTRUCTURE, f"The runner failed at {doing}: {error}")


def stream_totals(end: Exit) -> list[StreamTotal]:
    """The script's own streams; what rgrid said in between is not the script's."""
    return [
        {"stream": total.stream, "kept": total.kept, "truncated": total.truncated, "sha256": total.sha256}
        for total in end.streams
        if total.stream is not Stream.SYSTEM
    ]


def message_of(end: Exit) -> str:
    """What people should read: the end of stderr if the script failed by itself, else the backend's sentence."""
    if end.failure is None:
        return ""
    if end.failure is FailureClass.SCRIPT and end.stderr_tail.strip():
        return clip(end.stderr_tail.strip())
    return clip(end.message)


def clip(text: str) -> str:
    """At most ``MESSAGE_BYTES`` of ``text``, its end, in characters that PostgreSQL takes."""
    return text.replace("\0", "�").encode(errors="replace")[-MESSAGE_BYTES:].decode(errors="ignore")


def failed_report(
    execution_id: str, attempt: int, error: AttemptFailed, *, last_seq: int, prepare_ms: int, layer: str, now: datetime
) -> FinishReport:
    """The report of an attempt whose script never ran, or whose outputs are lost."""
    usage: Usage = {"wall_ms": 0, "cpu_ms": 0, "max_rss": 0, "prepare_ms": prepare_ms, "deliver_ms": 0}
    return {
        "execution_id": execution_id,
        "attempt": attempt,
        "failure": error.failure,
        "exit_code": None,
        "signal": None,
        "message": clip(error.message),
        "started_at": None,
        "ended_at": wire_time(now),
        "usage": usage,
        "manifest": EMPTY_MANIFEST,
        "last_seq": last_seq,
        "streams": [],
        "bad_blobs": list(error.bad_blobs),
        "layer": layer,
    }


def ended_report(
    execution_id: str,
    attempt: int,
    end: Exit,
    manifest: Manifest,
    *,
    last_seq: int,
    prepare_ms: int,
    deliver_ms: int,
    layer: str,
    gpu_use: GpuUse = NO_GPU,
) -> FinishReport:
    """The report of an attempt whose script ran and whose outputs are stored."""
    return {
        "execution_id": execution_id,
        "attempt": attempt,
        "failure": end.failure,
        "exit_code": end.exit_code,
        "signal": end.signal,
        "message": message_of(end),
        "started_at": wire_time(end.started_at),
        "ended_at": wire_time(end.ended_at),
        "usage": {
            "wall_ms": end.wall_ms,
            "cpu_ms": end.cpu_ms,
            "max_rss": end.max_rss,
            "prepare_ms": prepare_ms,
            "deliver_ms": deliver_ms,
            "read_bytes": end.read_bytes,
            "written_bytes": end.written_bytes,
            "gpu_percent": gpu_use.percent,
            "gpu_memory": gpu_use.memory,
        },
        "manifest": manifest,
        "last_seq": last_seq,
        "streams": stream_totals(end),
        "bad_blobs": [],
        "layer": layer,
    }
