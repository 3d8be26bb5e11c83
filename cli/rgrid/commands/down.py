"""``rgrid down``: stop the grid on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from rgrid import output
from rgrid.config import home
from rgrid.verbs import Json, Quiet, Yes, application

app = application()


@app.verb()
def down(
    force: Annotated[
        bool, typer.Option("--force", help="Also kill scripts that still run; the next start runs them again.")
    ] = False,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Then delete all of it: history, files, keys, installed layers.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Stop the grid on this machine. Its data stays, and what is open goes on at the next start."""
    from rgrid.local import find, start
    from rgrid.local.layout import locate

    output.mode.json, output.mode.quiet = json, quiet
    layout = locate(home())
    if delete_data and layout.root.exists():
        question = f"Delete {layout.root} with everything that ever ran there?"
        if not output.confirm(question, yes=yes):
            raise typer.Exit(1)
    record = find.running(layout)
    counted = (start.activity(layout, record) or {}).get("open_executions") if record else 0
    stopped = start.shut_down(layout, force=force or delete_data)
    if delete_data:
        start.delete_data(layout)
    if json:
        output.write_json({"stopped": stopped, "open_executions": counted, "deleted": delete_data})
    elif not quiet:
        output.write("The grid is stopped." if stopped else "The grid was not running.")
        if delete_data:
            output.write(f"{layout.root} is deleted.")
        elif counted:
            noun = "execution is" if counted == 1 else "executions are"
            output.write(f"{counted} {noun} open and will go on at the next start.")
