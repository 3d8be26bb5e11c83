"""``rgrid status``: where a run or a batch stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rgrid import output
from rgrid.counts import counts_text, failed
from rgrid.output import Cell
from rgrid.selectors import Found, find
from rgrid.session import connect
from rgrid.times import duration_text, size_text, span_text, time_text
from rgrid.verbs import Json, Profile, Quiet, Select, ServerUrl, Target, Utc, application
from rgrid_shared.states import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rgrid.client import Client
    from rgrid_shared.protocol import Usage
    from rgrid_shared.views import ExecutionDetail, ExecutionView

ROWS = 20
COLOURS = {
    Status.SUCCEEDED: output.GREEN,
    Status.FAILED: output.RED,
    Status.TIMED_OUT: output.RED,
    Status.RUNNING: output.BLUE,
    Status.CANCELLED: output.YELLOW,
    Status.SKIPPED: output.YELLOW,
}

app = application()


@app.verb()
def status(
    target: Target = "last",
    items: Select = None,
    json: Json = False,
    quiet: Quiet = False,
    utc: Utc = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Show where a run or a batch stands; with ITEMS, those items one by one."""
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        found = find(client, target, items)
        if found.indexes is not None:
            _items(client, found, utc=utc)
        elif json:
            output.write_json(found.batch)
        elif quiet:
            output.write(found.batch["id"])
        elif found.batch["single"] and found.batch["first_execution_id"]:
            latest = next(found.executions(client))
            _execution(client.execution(latest["id"]), utc=utc)
        else:
            _batch(client, found, utc=utc)


def _items(client: Client, found: Found, *, utc: bool) -> None:
    views = list(found.executions(client))
    if output.mode.json:
        if len(views) == 1:
            output.write_json(client.execution(views[0]["id"]))
        else:
            output.write_json({"executions": views})
    elif output.mode.quiet:
        for view in views:
            output.write(view["id"])
    elif len(views) == 1:
        _execution(client.execution(views[0]["id"]), utc=utc)
    else:
        table(views)


def table(views: list[ExecutionView]) -> None:
    """Executions as rows."""
    now = datetime.now(UTC)
    output.table(
        ["ITEM", "NAME", "STATUS", "CODE", "TIME", "FILES", "ID"],
        [
            [
                str(view["index"]),
                output.shorten(view["name"], 48),
                status_cell(view),
                "" if view["exit_code"] is None else str(view["exit_code"]),
                span_text(view["started_at"], view["ended_at"], now),
                str(view["output_files"] or ""),
                view["id"],
            ]
            for view in views
        ],
    )


def status_cell(view: ExecutionView) -> Cell:
    """The status, with its phase while it runs, in its colour."""
    word = Status(view["status"])
    text = f"{word} ({view['phase']})" if view["phase"] and view["phase"] != word else str(word)
    return Cell(text, COLOURS.get(word, ""))


def _execution(view: ExecutionDetail, *, utc: bool) -> None:
    now = datetime.now(UTC)
    last = view["attempts"][-1] if view["attempts"] else None
    usage = last["usage"] if last else None
    outputs = f"{view['output_files']} files, {size_text(view['output_bytes'])}" if view["output_files"] else ""
    attempts = f"{view['attempt']} (retried)" if view["attempt"] > 1 else ""
    output.fields(
        [
            ("Run", view["batch_id"]),
            ("Execution", f"{view['id']}" + (f" (item {view['index']})" if view["output_name"] else "")),
            ("Script", view["script"]),
            ("Item", view["name"]),
            ("Status", status_cell(view)),
            ("Exit code", "" if view["exit_code"] is None else str(view["exit_code"])),
            ("Why", "" if view["status"] == Status.SUCCEEDED else view["reason"] or view["message"]),
            ("Submitted", time_text(view["created_at"], utc=utc)),
            ("Started", time_text(view["started_at"], utc=utc)),
            ("Ended", time_text(view["ended_at"], utc=utc)),
            ("Took", span_text(view["started_at"], view["ended_at"], now)),
            ("Runner", view["runner"]),
            ("Attempts", attempts),
            *used(usage),
            ("Outputs", outputs),
        ]
    )


def used(usage: Usage | None) -> Iterator[tuple[str, str]]:
    """What the last attempt took of its host, as far as that was measured."""
    if usage is None:
        return
    yield "CPU time", duration_text(usage["cpu_ms"] / 1000)
    yield "Memory", f"{size_text(usage['max_rss'])} at most" if usage["max_rss"] else ""
    read, written = usage.get("read_bytes", 0), usage.get("written_bytes", 0)
    yield "Disk", f"{size_text(read)} read, {size_text(written)} written" if read or written else ""
    percent, memory = usage.get("gpu_percent", 0), usage.get("gpu_memory", 0)
    yield "GPU", f"{percent} % busy, {size_text(memory)} at most" if percent or memory else ""


def _batch(client: Client, found: Found, *, utc: bool) -> None:
    batch = found.batch
    output.fields(
        [
            ("Batch", batch["id"]),
            ("Name", batch["name"]),
            ("Script", batch["script"]),
            ("Items", f"{batch['total']}: {counts_text(batch['counts'])}"),
            ("Parallel", str(batch["parallel"] or "")),
            ("Held", batch["hold"]),
            ("Submitted", time_text(batch["created_at"], utc=utc)),
            ("Ended", time_text(batch["ended_at"], utc=utc)),
            ("Took", span_text(batch["started_at"], batch["ended_at"], datetime.now(UTC))),
        ]
    )
    if failed(batch["counts"]):
        page = client.executions(batch["id"], {Status.FAILED: "1", "limit": ROWS})
        output.write("")
        table(page["executions"])
        if page["next"]:
            output.write(f"… and more: rgrid status {batch['id']} ITEMS")
        output.write(f"\nRun them again: rgrid retry {batch['id']} --failed")
