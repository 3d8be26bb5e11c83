"""``rgrid delete``: what has ended, with its logs and outputs."""

from __future__ import annotations

from typing import Annotated

import typer

from rgrid import output, runs
from rgrid.selectors import find
from rgrid.session import connect
from rgrid.verbs import Json, Profile, Quiet, ServerUrl, Yes, application
from rgrid_shared.errors import Conflict

app = application()


@app.verb()
def delete(
    targets: Annotated[
        list[str], typer.Argument(metavar="TARGET…", help="Batches: id, unique prefix, last or last:N.")
    ],
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Delete runs and batches that have ended, with their logs and the outputs on the grid. Asks first."""
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        batches = [find(client, target).batch for target in targets]
        for batch in batches:
            if not batch["done"]:
                raise Conflict(f"{batch['id']} has not ended.", hint=f"rgrid cancel {batch['id']}")
        names = ", ".join(batch["id"] for batch in batches)
        if not output.confirm(f"Delete {names} with all logs and outputs on the grid?", yes=yes):
            raise typer.Exit(1)
        for batch in batches:
            client.delete(batch["id"])
            runs.forget(batch["id"])
            if quiet:
                output.write(batch["id"])
    if json:
        output.write_json({"deleted": [batch["id"] for batch in batches]})
    elif not quiet:
        output.say(f"deleted {names}")
