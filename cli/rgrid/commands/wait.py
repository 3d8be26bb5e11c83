"""``rgrid wait``: until everything named has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rgrid import output
from rgrid.counts import succeeded
from rgrid.follow.ending import exit_code
from rgrid.follow.waiting import until_done
from rgrid.selectors import Found, find
from rgrid.session import connect
from rgrid.times import duration_text, seconds_of
from rgrid.verbs import TARGET, Json, Profile, Quiet, ServerUrl, application

if TYPE_CHECKING:
    from rgrid.client import Client

TIMED_OUT = 124

app = application()


@app.verb()
def wait(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET]…", help=f"{TARGET} Default: last.", show_default=False)
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Give up after this long (exit code 124).")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Wait until runs and batches have ended, without their output.

    Exits with the script's code for one run; for a batch, or for several targets, with 0 if all succeeded and 1 if not.
    """
    output.mode.json, output.mode.quiet = json, quiet
    limit = seconds_of(timeout) if timeout else None
    with connect(profile, server) as client:
        found = [find(client, target) for target in targets or ["last"]]
        if not until_done(client, found, limit, output.say):
            output.say(f"not done after {duration_text(limit or 0)}; it goes on")
            raise typer.Exit(TIMED_OUT)
        codes = [_code(client, one) for one in found]
        if json:
            ended = [client.batch(one.batch["id"]) for one in found]
            output.write_json(ended[0] if len(ended) == 1 else {"batches": ended})
    raise typer.Exit(codes[0] if len(codes) == 1 else int(any(codes)))


def _code(client: Client, found: Found) -> int:
    batch = client.batch(found.batch["id"])
    if batch["single"] or found.indexes is not None:
        return max(exit_code(view) for view in found.executions(client))
    return 0 if succeeded(batch["counts"]) == batch["total"] else 1
