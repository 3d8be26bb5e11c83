"""``rgrid download``: outputs to this machine, again or for the first time."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from rgrid import output, runs
from rgrid.selectors import find
from rgrid.session import connect
from rgrid.times import size_text
from rgrid.transfer.bring import bring
from rgrid.verbs import Json, Profile, Quiet, Select, ServerUrl, Target, application

if TYPE_CHECKING:
    from rgrid.transfer.download import Summary

app = application()


@app.verb()
def download(
    target: Target = "last",
    items: Select = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", "-o", metavar="DIR", help="Put the files there.")
    ] = None,
    flat: Annotated[bool, typer.Option("--flat", help="A batch's outputs without a directory for each item.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Bring the outputs of what has ended to where they belong, or to this directory if it was submitted elsewhere.

    Files that are here already are not fetched again, and a file that was changed here is not overwritten: the output
    is then put beside it. -q prints the paths.
    """
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        found = find(client, target, items)
        record = runs.recall(found.batch["id"])
        flat = flat or bool(record and record.flat)
        summary = bring(client, found.batch, found.indexes, record=record, dest=output_dir, flat=flat)
        if record and summary.written:
            runs.remember(found.batch["id"], replace(record, written={**record.written, **summary.written}))
        _show(summary, done=found.batch["done"])


def _show(summary: Summary, *, done: bool) -> None:
    for line in summary.notes():
        output.say(line)
    if output.mode.json:
        kept = [{"path": path, "output": place} for path, place in summary.aside]
        output.write_json({"files": summary.paths, "bytes": summary.bytes, "kept_local": kept})
    elif output.mode.quiet:
        for path in summary.paths:
            output.write(path)
    else:
        count = len(summary.paths)
        where = f", in {os.path.commonpath([os.path.dirname(path) for path in summary.paths])}" if count else ""  # noqa: PTH120
        text = f"{count} file{'s' * (count != 1)}, {size_text(summary.bytes)}{where}" if count else "no outputs"
        output.say(text if done else f"{text} (some items have not ended yet)")
