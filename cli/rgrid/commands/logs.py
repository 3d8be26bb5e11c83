"""``rgrid logs``: what a script has printed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rgrid import output
from rgrid.follow.feed import Position, execution_feed
from rgrid.follow.printing import Printer
from rgrid.selectors import find
from rgrid.session import connect
from rgrid.times import moment
from rgrid.verbs import Json, Profile, Select, ServerUrl, Target, Utc, application
from rgrid_shared.errors import UsageError
from rgrid_shared.states import Stream

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid_shared.views import ExecutionView

app = application()


@app.verb()
def logs(
    target: Target = "last",
    items: Select = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the script prints.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", metavar="N", min=0, help="Only the last N lines.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only what was printed since: 10m, 2026-01-31T12:00.")
    ] = None,
    stream: Annotated[
        str | None, typer.Option("--stream", metavar="NAME", help=f"Only one of: {', '.join(Stream)}.")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", "-t", help="Put the time before each line.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Pass control characters on to the terminal (as a pipe always gets them).")
    ] = False,
    json: Json = False,
    utc: Utc = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Show what a script has printed: its stdout on stdout, its stderr on stderr.

    Of a batch it shows item by item under headings; -f wants one item. With --json each chunk is one line.
    """
    output.mode.json = json
    if stream is not None and stream not in list(Stream):
        raise UsageError(f"There is no stream {stream!r}.", hint=f"One of: {', '.join(Stream)}")
    query: dict[str, Any] = {"tail": tail, "since": moment(since, datetime.now(UTC)) if since else None}
    with connect(profile, server) as client:
        found = find(client, target, items)
        printer = Printer(stream=stream, timestamps=timestamps, raw=raw, json=json, utc=utc)
        if follow or found.batch["total"] == 1:
            _show(client, found.execution(client), printer, query, follow=follow)
            return
        several = found.indexes is None or len(found.indexes) > 1
        for view in found.executions(client):
            if several and view["log_bytes"]:
                printer.heading(f"item {view['index']}: {view['name']}")
            if view["log_bytes"]:
                _show(client, view, printer, query, follow=False)


def _show(client: Client, view: ExecutionView, printer: Printer, query: dict[str, Any], *, follow: bool) -> None:
    place = Position()
    page = client.logs(view["id"], query)
    while True:
        for chunk in page["chunks"]:
            place.advance(chunk["attempt"], chunk["seq"])
            printer.show(view, chunk)
        if page["ended"] or not page["chunks"]:
            break
        page = client.logs(view["id"], {"after": page["next"], "since": query["since"]})
    if follow and not page["ended"]:
        for message in execution_feed(client, view["id"], outputs=False, say=output.say, position=place):
            if message["type"] == "log":
                printer.show(view, message)
    printer.end()
