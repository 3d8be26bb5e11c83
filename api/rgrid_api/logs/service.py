"""Appending what runners report. Chunks of an attempt are numbered from 1 without a gap.

A chunk is taken if it is the next one; repeats are ignored, and nothing is taken after a hole: the answer names the
first number that is lacking, and the runner ships again from there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rgrid_api.logs.chunks import STREAM_NUMBERS
from rgrid_shared.errors import InvalidRequest, TooLarge
from rgrid_shared.protocol import AttemptReport, LogChunk, ReportAnswer

if TYPE_CHECKING:
    from rgrid_api.db.session import Tx

DEFAULT_MAX_BYTES: Final = 2 * 1024**3


@dataclass(slots=True)
class _Columns:
    """Chunks as the columns of one statement. ``first``: the lowest number sent for the chunk's attempt."""

    execution_ids: list[str] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    streams: list[int] = field(default_factory=list)
    ats: list[datetime] = field(default_factory=list)
    datas: list[bytes] = field(default_factory=list)


async def append(
    tx: Tx,
    runner_id: str,
    reports: Sequence[AttemptReport],
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    relaxed: bool = False,
) -> list[ReportAnswer]:
    """Store the chunks of ``reports``; one answer for each report, in order. One round trip.

    An attempt that is not live on ``runner_id`` is answered as stale. ``relaxed``: the transaction holds nothing but
    logs, so its commit need not wait for the disk (runners keep their spool until the attempt has finished).
    Raises ``InvalidRequest`` for a chunk that cannot be decoded, ``TooLarge`` over ``max_bytes`` for one attempt: the
    runner keeps the limit, this only stops one that does not.
    """
    columns = _columns(reports)
    result = await tx.run(
        "log_append",
        runner_id=runner_id,
        report_executions=[report["execution_id"] for report in reports],
        report_attempts=[report["attempt"] for report in reports],
        executions=columns.execution_ids,
        attempts=columns.attempts,
        firsts=columns.firsts,
        seqs=columns.seqs,
        streams=columns.streams,
        ats=columns.ats,
        datas=columns.datas,
        relaxed=relaxed,
    )
    have: dict[tuple[str, int], int] = {}
    for row in result:
        have[row.execution_id, row.attempt] = row.log_seq
        if row.added:
            if row.log_bytes > max_bytes:
                raise TooLarge(f"{row.execution_id} has written more log than the limit of its runner allows")
            tx.notify(f"l:{row.execution_id}")
    answers: list[ReportAnswer] = []
    for report in reports:
        seq = have.get((report["execution_id"], report["attempt"]))
        answers.append(
            {
                "execution_id": report["execution_id"],
                "attempt": report["attempt"],
                "next_seq": 0 if seq is None else seq + 1,
                "stale": seq is None,
            }
        )
    return answers


def _columns(reports: Sequence[AttemptReport]) -> _Columns:
    """Every attempt's chunks once, ascending, up to its first hole."""
    chunks: dict[tuple[str, int], dict[int, LogChunk]] = {}
    for report in reports:
        if report["chunks"]:
            known = chunks.setdefault((report["execution_id"], report["attempt"]), {})
            for chunk in report["chunks"]:
                known.setdefault(chunk["seq"], chunk)
    columns = _Columns()
    for (execution_id, attempt), by_seq in chunks.items():
        first = seq = min(by_seq)
        while seq in by_seq:
            chunk = by_seq[seq]
            columns.execution_ids.append(execution_id)
            columns.attempts.append(attempt)
            columns.firsts.append(first)
            columns.seqs.append(seq)
            columns.streams.append(_stream_number(chunk["stream"]))
            columns.ats.append(_instant(chunk["at"]))
            columns.datas.append(_bytes(chunk["data"]))
            seq += 1
    return columns


def _stream_number(name: str) -> int:
    try:
        return STREAM_NUMBERS[name]
    except KeyError:
        raise InvalidRequest(f"there is no log stream {name!r}") from None


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"not a time: {text!r}") from None
    if at.tzinfo is None:
        raise InvalidRequest(f"a time without a zone: {text!r}")
    return at


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("a log chunk is not valid base 64") from None
