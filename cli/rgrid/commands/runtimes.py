"""``rgrid runtimes``: what scripts can be run in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rgrid import output
from rgrid.config import home
from rgrid.output import Cell
from rgrid.session import connect
from rgrid.verbs import Json, Profile, Quiet, ServerUrl, application

if TYPE_CHECKING:
    from rgrid_shared.views import RuntimeView

app = application()


@app.verb()
def runtimes(json: Json = False, quiet: Quiet = False, profile: Profile = None, server: ServerUrl = None) -> None:
    """List what scripts can be run in: names for `rgrid run --runtime`."""
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        page = client.runtimes()
    default = "" if quiet else _default()
    if json:
        output.write_json({**page, "default": default})
        return
    if quiet:
        for each in page["runtimes"]:
            output.write(each["name"])
        return
    if page["runtimes"]:
        heads = ["NAME", "VERSION", "SCRIPTS", "RUNNERS", "IMAGE"]
        output.table(heads, [_row(each, default) for each in page["runtimes"]])
    else:
        output.say("there is no runner that offers any; on a host that should run scripts, start: rgrid-runner")
    if page["allowed_images"]:
        output.say(f"images can be named instead: {', '.join(page['allowed_images'])}")


def _row(runtime: RuntimeView, default: str) -> list[str]:
    mine = "python (default here)" if runtime["name"] == default else runtime["language"] or "any"
    return [
        runtime["name"],
        ", ".join(runtime["versions"]),
        mine,
        Cell(str(runtime["runners"]), output.GREEN if runtime["runners"] else output.RED),
        ", ".join(runtime["images"]),
    ]


def _default() -> str:
    """The runtime of a Python script that names none, as far as this machine decides it."""
    from rgrid.submit import interpreters
    from rgrid.submit.runtimes import python_for
    from rgrid_shared.errors import UsageError

    try:
        python = interpreters.ask(interpreters.find(os.environ), os.environ, home() / "cache")
    except UsageError:  # no Python here, so no default either
        return ""
    return python_for(python.minor, "")
