"""``rgrid up``: the grid on this machine."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from rgrid import output
from rgrid.config import Server, home
from rgrid.verbs import Json, Quiet, application

RUNNER_LIMIT_S = 10.0

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
    record = find.running(layout)
    started = record is None
    if record is None:
        record = start.bring_up(layout, auto=False, say=_quiet if quiet or json else output.say)
    elif record.auto:
        start.keep(record)
    server = find.server_of(layout, record)
    _await_runner(server)
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
                ("Console", f"rgrid status, rgrid list, rgrid logs; API at {record.url}/docs"),
                ("Stop it", "rgrid down"),
            )
        )


def _quiet(_text: str) -> None:
    """Say nothing."""


def _await_runner(server: Server) -> None:
    """Wait a moment until the runner is there, so that `up` means what it says; `doctor` knows more if it is not."""
    from rgrid.client import Client

    deadline = time.monotonic() + RUNNER_LIMIT_S
    with Client(server) as client:
        while not any(runner["state"] == "online" for runner in client.runners()["runners"]):
            if time.monotonic() > deadline:
                output.say("the runner is not there yet; rgrid doctor says why")
                return
            time.sleep(0.05)
