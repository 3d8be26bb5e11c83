"""``rgrid attach``: watch again what was submitted before."""

from __future__ import annotations

from typing import Annotated

import typer

from rgrid import output
from rgrid.follow.attach import Options, attach_batch
from rgrid.selectors import find
from rgrid.session import connect
from rgrid.verbs import Json, Profile, Quiet, Select, ServerUrl, Target, application


@(app := application()).verb()
def attach(
    target: Target = "last",
    items: Select = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", "-o", metavar="DIR", help="Put outputs there.")
    ] = None,
    flat: Annotated[bool, typer.Option("--flat", help="A batch's outputs without a directory for each item.")] = False,
    remote_only: Annotated[bool, typer.Option("--remote-only", help="Leave outputs on the grid.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Watch a run from its first line, or a batch until it is done, and bring its outputs home.

    Exits with the script's code for a run (or one item), with 0 or 1 for a batch.
    """
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        found = find(client, target, items)
        options = Options(json=json, quiet=quiet, place=not remote_only, dest=output_dir, flat=flat)
        if found.batch["total"] > 1 and found.indexes is None:
            raise typer.Exit(attach_batch(client, found.batch, options=options))

        from rgrid.follow.single import watch

        execution = found.execution(client)
        if not found.batch["single"]:
            options = Options(json=json, quiet=quiet, place=False)
        raise typer.Exit(watch(client, found.batch, local_root=None, options=options, execution_id=execution["id"]))
