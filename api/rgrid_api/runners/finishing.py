"""The end of attempts as runners report it. Nothing is taken before log and outputs are complete in the grid."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from rgrid_api.blobs.places import complete_upload, output_prefix
from rgrid_api.db.session import Database
from rgrid_api.queue.ending import end_attempts, standings
from rgrid_api.queue.outcome import Outcome, Ref, Standing
from rgrid_api.queue.queue import Queue
from rgrid_api.runners.manifests import files_in, manifest_problem
from rgrid_api.storage.s3 import ObjectStore
from rgrid_api.times import from_wire
from rgrid_shared.errors import RgridError
from rgrid_shared.protocol import FinishAnswer, FinishReport
from rgrid_shared.states import FailureClass

LARGE_MANIFEST: Final = 2_000
"""Entries from which on a manifest is checked in a thread."""


async def finish(
    database: Database, store: ObjectStore, queue: Queue, runner_id: str, reports: Sequence[FinishReport]
) -> list[FinishAnswer]:
    """End the reported attempts; one answer for each, in order.

    An attempt whose end was accepted before is accepted again. Multipart uploads are joined before anything is
    written, outside any transaction.
    """
    if not reports:
        return []
    async with database.read() as tx:
        known = await standings(tx, [_ref(report) for report in reports])
    answers = [_first_answer(report, known.get(_ref(report)), runner_id) for report in reports]
    ready = [
        (report, answer)
        for report, answer in zip(reports, answers, strict=True)
        if not (answer["accepted"] or answer["stale"] or answer["next_seq"] <= report["last_seq"])
    ]
    await asyncio.gather(*(_complete(store, report, known[_ref(report)], answer) for report, answer in ready))
    complete = [(report, answer) for report, answer in ready if not answer["error"]]
    await _end(database, queue, runner_id, complete, known)
    return answers


def _ref(report: FinishReport) -> Ref:
    return report["execution_id"], report["attempt"]


def _first_answer(report: FinishReport, standing: Standing | None, runner_id: str) -> FinishAnswer:
    mine = standing is not None and standing.runner_id == runner_id
    return {
        "execution_id": report["execution_id"],
        "attempt": report["attempt"],
        "accepted": standing is not None and mine and not standing.live and standing.reported,
        "stale": standing is None or not mine or not (standing.live or standing.reported),
        "next_seq": 0 if standing is None else standing.log_seq + 1,
        "error": "",
    }


async def _complete(store: ObjectStore, report: FinishReport, standing: Standing, answer: FinishAnswer) -> None:
    """Check the manifest and join multipart uploads; what is wrong goes into the answer's ``error``."""
    manifest = report["manifest"]
    prefix = output_prefix(standing.project_id, *_ref(report))
    if len(manifest["entries"]) > LARGE_MANIFEST:
        answer["error"] = await asyncio.to_thread(manifest_problem, manifest, prefix)
    else:
        answer["error"] = manifest_problem(manifest, prefix)
    if answer["error"]:
        return
    for stored in manifest["objects"]:
        if upload_id := stored.get("upload_id"):
            try:
                await complete_upload(
                    store,
                    stored["key"],
                    stored["size"],
                    name=f"an output of {report['execution_id']}",
                    upload_id=upload_id,
                    etags=stored.get("etags", []),
                )
            except RgridError as error:
                answer["error"] = error.message
                return


def _outcome(report: FinishReport) -> Outcome:
    failure = None if report["failure"] is None else FailureClass(report["failure"])
    if failure is None and report["exit_code"] != 0:
        failure = FailureClass.SCRIPT
    files, size = files_in(report["manifest"])
    return Outcome(
        execution_id=report["execution_id"],
        attempt=report["attempt"],
        failure=failure,
        exit_code=report["exit_code"],
        signal=report["signal"],
        message=report["message"],
        started_at=None if report["started_at"] is None else from_wire(report["started_at"], "started_at"),
        usage=report["usage"],
        manifest=report["manifest"],
        streams=report["streams"],
        layer=report["layer"],
        output_files=files,
        output_bytes=size,
    )


async def _end(
    database: Database,
    queue: Queue,
    runner_id: str,
    complete: Sequence[tuple[FinishReport, FinishAnswer]],
    known: dict[Ref, Standing],
) -> None:
    outcomes: dict[Ref, Outcome] = {}
    for report, answer in complete:
        try:
            outcomes[_ref(report)] = _outcome(report)
        except ValueError:
            answer["error"] = f"there is no failure class {str(report['failure'])[:40]!r}"
    if not outcomes:
        return
    async with database.transaction() as tx:
        ended = await end_attempts(tx, runner_id, list(outcomes.values()), known)
        for project_id, hashes in _bad_blobs(complete, known).items():
            await tx.run("blobs_mark_missing", project_id=project_id, hashes=sorted(hashes))
    for report, answer in complete:
        if _ref(report) in outcomes:
            answer["accepted"] = _ref(report) in ended
            answer["stale"] = not answer["accepted"]
    unsettled = sorted({end.batch_id for end in ended.values() if end.unsettled})
    if unsettled:
        await queue.settle(unsettled)


def _bad_blobs(
    complete: Sequence[tuple[FinishReport, FinishAnswer]], known: dict[Ref, Standing]
) -> dict[str, set[str]]:
    """Blobs whose bytes a runner found missing or wrong, by project: the next submission uploads them again."""
    bad: defaultdict[str, set[str]] = defaultdict(set)
    for report, _ in complete:
        if report["failure"] == FailureClass.INPUT and report["bad_blobs"]:
            bad[known[_ref(report)].project_id].update(report["bad_blobs"])
    return bad
