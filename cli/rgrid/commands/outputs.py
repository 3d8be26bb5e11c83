"""``rgrid outputs``: what files there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rgrid import output
from rgrid.selectors import find, index_text
from rgrid.session import connect
from rgrid.times import size_text
from rgrid.transfer.placement import from_cwd
from rgrid.verbs import Json, Profile, Quiet, Select, ServerUrl, Target, application

if TYPE_CHECKING:
    from rgrid_shared.protocol import OutputEntry
    from rgrid_shared.views import OutputsView

app = application()


@app.verb()
def outputs(
    target: Target = "last",
    items: Select = None,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """List the files that a run or a batch has made; -q prints their paths only."""
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        found = find(client, target, items)
        cwd = found.batch["spec"]["cwd"]
        query: dict[str, Any] = {"index": index_text(found.indexes), "limit": 200}
        views: list[OutputsView] = list(
            client.pages(lambda page: client.batch_outputs(found.batch["id"], page), query, "outputs")
        )
    if json:
        # Links to the store are for the transfer and end soon; they are no part of what was made.
        output.write_json({"outputs": [{k: v for k, v in view.items() if k != "objects"} for view in views]})
        return
    rows = [(view, entry) for view in views for entry in view["entries"]]
    if quiet:
        for view, entry in rows:
            if entry["kind"] == "file":
                output.write(_path(view, entry, cwd))
    elif not rows:
        output.say("no outputs yet" if not found.batch["done"] else "no outputs")
    else:
        output.table(["SIZE", "PATH"], [[_size(entry), _path(view, entry, cwd)] for view, entry in rows])
    for view in views:
        for left in view["left_out"]:
            output.say(f"not collected: {left['path']}: {left['reason']}")


def _path(view: OutputsView, entry: OutputEntry, cwd: str) -> str:
    path = from_cwd(entry["path"], cwd)
    if entry["kind"] == "link":
        path += f" -> {entry['target']}"
    return f"{view['output_name']}/{path}" if view["output_name"] else path


def _size(entry: OutputEntry) -> str:
    return size_text(entry["size"]) if entry["kind"] == "file" else entry["kind"]
