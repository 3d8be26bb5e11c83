"""``rgrid list``: runs and batches, newest first."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from rgrid import output
from rgrid.commands.status import COLOURS
from rgrid.counts import counts_text, ended, failed, running, stopped, succeeded
from rgrid.output import Cell
from rgrid.session import connect
from rgrid.times import ago_text, moment, span_text, time_text
from rgrid.verbs import Json, Profile, Quiet, ServerUrl, Utc, application
from rgrid_shared.errors import UsageError
from rgrid_shared.states import Status

if TYPE_CHECKING:
    from rgrid_shared.views import BatchView

PAGE = 200

app = application()


@app.verb("list")
def list_(
    status: Annotated[
        str | None, typer.Option("--status", help=f"With an item in this status: {', '.join(Status)}.")
    ] = None,
    script: Annotated[str | None, typer.Option("--script", help="Of this script.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="With this name.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="K=V", help="With this metadata (repeatable).")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Submitted after: 2h, 2026-01-31.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Submitted before.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most this many.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    utc: Utc = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """List runs and batches, newest first."""
    output.mode.json, output.mode.quiet = json, quiet
    if status is not None and status not in list(Status):
        raise UsageError(f"There is no status {status!r}.", hint=f"One of: {', '.join(Status)}")
    for pair in metadata or []:
        if "=" not in pair.strip("="):
            raise UsageError(f"--metadata {pair!r} is not of the form K=V.")
    now = datetime.now(UTC)
    query: dict[str, str | int | list[str] | None] = {
        "status": status,
        "script": script,
        "name": name,
        "metadata": metadata or [],
        "since": moment(since, now) if since else None,
        "until": moment(until, now) if until else None,
        "limit": PAGE if everything else min(limit, PAGE),
    }
    with connect(profile, server) as client:
        found = client.pages(client.batches, query, "batches")
        batches: list[BatchView] = list(found if everything else itertools.islice(found, limit))
    if json:
        output.write_json({"batches": batches})
    elif quiet:
        for batch in batches:
            output.write(batch["id"])
    elif not batches:
        output.say("nothing has run here yet" if not (status or script or name or metadata) else "nothing matches")
    else:
        _table(batches, now, utc=utc)


def _table(batches: list[BatchView], now: datetime, *, utc: bool) -> None:
    output.table(
        ["ID", "SCRIPT", "NAME", "ITEMS", "STATUS", "SUBMITTED", "TOOK"],
        [
            [
                batch["id"],
                output.shorten(batch["script"], 32),
                output.shorten(batch["name"], 24),
                "" if batch["single"] else str(batch["total"]),
                state(batch),
                time_text(batch["created_at"], utc=True) if utc else ago_text(batch["created_at"], now),
                span_text(batch["started_at"], batch["ended_at"], now),
            ]
            for batch in batches
        ],
    )


def state(batch: BatchView) -> Cell:
    """One word for a single run or a finished batch, the counts for one that is on its way."""
    counts = batch["counts"]
    for number, word in (
        (failed(counts), Status.FAILED),
        (stopped(counts), Status.CANCELLED),
        (succeeded(counts), Status.SUCCEEDED),
    ):
        if number and number == ended(counts) == batch["total"]:
            return Cell(str(word), COLOURS[word])
    if batch["done"]:
        return Cell(counts_text(counts), COLOURS[Status.FAILED] if failed(counts) else "")
    colour = COLOURS[Status.RUNNING] if running(counts) else ""
    return Cell(counts_text(counts), colour)
