"""News of running attempts: their log, their phase, and when their script started."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rgrid_api.db.session import Database, Tx
from rgrid_api.logs.service import append
from rgrid_api.queue.outcome import Ref
from rgrid_api.times import from_wire
from rgrid_shared.errors import InvalidRequest
from rgrid_shared.protocol import AttemptReport, ReportReply
from rgrid_shared.states import Phase

_KNOWN_KEPT: Final = 50_000
_News = tuple[str, bool]
"""A phase, and whether the start of the script was told."""


class Reporter:
    """Takes reports. Remembers what each attempt said last: most reports bring log and nothing else."""

    def __init__(self, database: Database, log_limit: int) -> None:
        """``log_limit``: bytes that a runner keeps of an attempt's log; twice as many are taken, in case."""
        self._database = database
        self._max_bytes = 2 * log_limit
        self._known: dict[Ref, _News] = {}

    async def report(self, runner_id: str, reports: Sequence[AttemptReport]) -> ReportReply:
        """Store what is new; one answer for each report, in order. Raises InvalidRequest for an unknown phase."""
        news = [report for report in reports if self._known.get(_ref(report)) != _news(report)]
        async with self._database.transaction() as tx:
            answers = await append(tx, runner_id, reports, max_bytes=self._max_bytes, relaxed=not news)
            if news:
                await _move(tx, runner_id, news)
        if len(self._known) > _KNOWN_KEPT:
            self._known.clear()
        for report, answer in zip(reports, answers, strict=True):
            if answer["stale"]:
                self._known.pop(_ref(report), None)
            else:
                self._known[_ref(report)] = _news(report)
        return {"answers": answers}


async def _move(tx: Tx, runner_id: str, reports: Sequence[AttemptReport]) -> None:
    rows = await tx.run(
        "attempts_phase",
        runner_id=runner_id,
        executions=[report["execution_id"] for report in reports],
        attempts=[report["attempt"] for report in reports],
        phases=[_phase(report["phase"]) for report in reports],
        starts=[
            None if report["started_at"] is None else from_wire(report["started_at"], "started_at")
            for report in reports
        ],
    )
    for row in rows:
        tx.notify(f"b:{row.batch_id}", f"l:{row.id}")


def _phase(text: str) -> str:
    try:
        return str(Phase(text))
    except ValueError:
        raise InvalidRequest(f"there is no phase {text[:40]!r}") from None


def _ref(report: AttemptReport) -> Ref:
    return report["execution_id"], report["attempt"]


def _news(report: AttemptReport) -> _News:
    return report["phase"], report["started_at"] is not None
