"""``rgrid up``: the grid on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rgrid import output
from rgrid.config import home
from rgrid.verbs import Json, Quiet, application
from rgrid_shared import __version__

app = application()


@app.verb()
def up(
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in front, for systemd or a container; Ctrl-C stops the grid.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Start the grid on this machine and leave it running until `rgrid down`.

    It keeps its data below ~/.rgrid/local (RGRID_HOME moves it) and listens on loopback only.
    """
    from rgrid.local import find, start
    from rgrid.local.layout import locate

    output.mode.json, output.mode.quiet = json, quiet
    layout = locate(home())
    if foreground:
        command = start.supervisor_command(layout, "foreground")
        os.execv(command[0], command)  # noqa: S606 - the supervisor takes this process's place
    say = _quiet if quiet or json else output.say
    before = record = find.running(layout)
    if record is not None and record.version != __version__:
        record = start.settle_version(layout, record, say)
    started = record is None or record != before
    if record is None:
        record = start.bring_up(layout, auto=False, say=say)
    elif record.auto:
        start.keep(record)
    if json:
        output.write_json(
            {"url": record.url, "directory": str(layout.root), "started": started, "started_at": record.started_at}
        )
    elif quiet:
        output.write(record.url)
    else:
        output.write(f"The grid {'is up' if started else 'was up already'}: {record.url}")
        output.fields(
            (
                ("Data", str(layout.root)),
                ("Use it", "rgrid run SCRIPT"),
                ("Stop it", "rgrid down"),
            )
        )


def _quiet(_text: str) -> None:
    """Say nothing."""
