"""``rgrid retry``: run items again, as new executions of the same batch."""

from __future__ import annotations

from typing import Annotated

import typer

from rgrid import output
from rgrid.follow.attach import Options, attach_batch
from rgrid.selectors import find
from rgrid.session import connect
from rgrid.verbs import Json, Profile, Quiet, Select, ServerUrl, Target, application
from rgrid_shared.errors import UsageError

app = application()


@app.verb()
def retry(
    target: Target = "last",
    items: Select = None,
    failed: Annotated[bool, typer.Option("--failed", help="All items that did not succeed.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not watch.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Run a run, some items of a batch, or all that failed once more, and watch."""
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        found = find(client, target, items)
        batch = found.batch
        if failed and found.indexes is not None:
            raise UsageError("Name items or say --failed, not both.")
        indexes = found.indexes
        if indexes is None and not failed:
            if batch["total"] > 1:
                raise UsageError(
                    f"{batch['id']} has {batch['total']} items; say which.",
                    hint=f"rgrid retry {batch['id']} --failed   or: rgrid retry {batch['id']} 1,3-5",
                )
            indexes = [0]
        changed = client.retry(batch["id"], indexes, failed=failed)
        if detach or not changed["changed"]:
            _show(batch["id"], changed["changed"], changed["executions"], changed)
            return
        if not (json or quiet):
            output.say(f"{changed['changed']} item{'s' * (changed['changed'] != 1)} of {batch['id']} run again")
        options = Options(json=json, quiet=quiet)
        if batch["single"]:
            from rgrid.follow.single import watch

            raise typer.Exit(
                watch(client, batch, local_root=None, options=options, execution_id=changed["executions"][0])
            )
        raise typer.Exit(attach_batch(client, client.batch(batch["id"]), options=options))


def _show(batch_id: str, count: int, executions: list[str], document: object) -> None:
    if output.mode.json:
        output.write_json(document)
    elif output.mode.quiet:
        for execution in executions:
            output.write(execution)
    elif count:
        output.say(f"{count} item{'s' * (count != 1)} of {batch_id} run again. Watch: rgrid attach {batch_id}")
    else:
        output.say(f"{batch_id}: nothing to run again")
