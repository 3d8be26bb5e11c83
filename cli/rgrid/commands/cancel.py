"""``rgrid cancel``: stop what runs, and never start what waits."""

from __future__ import annotations

from typing import Annotated

import typer

from rgrid import output
from rgrid.counts import ended
from rgrid.selectors import find
from rgrid.session import connect
from rgrid.verbs import Json, Profile, Quiet, Select, ServerUrl, Target, Yes, application

app = application()


@app.verb()
def cancel(
    target: Target = "last",
    items: Select = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the run.")] = "",
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Stop a run or a batch (or some of its items). Asks on a terminal before it stops many items."""
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        found = find(client, target, items)
        open_items = found.batch["total"] - ended(found.batch["counts"])
        many = open_items > 1 and found.indexes is None
        if (
            many
            and output.lively()
            and not output.confirm(f"Cancel {open_items} items of {found.batch['id']}?", yes=yes)
        ):
            raise typer.Exit(1)
        changed = client.cancel(found.batch["id"], found.indexes, reason)
    if json:
        output.write_json(changed)
    elif quiet:
        for execution in changed["executions"]:
            output.write(execution)
    elif changed["changed"]:
        count = changed["changed"]
        output.say(f"{found.batch['id']}: {count} item{'s' * (count != 1)} cancelled")
    else:
        output.say(f"{found.batch['id']}: nothing to cancel, it has ended")
