"""``rgrid why``: one sentence for each thing that is not simply going well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rgrid import output
from rgrid.counts import counts_text, failed, waiting
from rgrid.follow.causes import Causes
from rgrid.selectors import Found, find
from rgrid.session import connect
from rgrid.verbs import Json, Profile, Select, ServerUrl, Target, application
from rgrid_shared.states import Status

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid_shared.views import ExecutionView

ROWS = 1000

app = application()


@app.verb()
def why(
    target: Target = "last",
    items: Select = None,
    json: Json = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Say why a run or a batch waits, failed or stopped, and what to do about it."""
    output.mode.json = json
    with connect(profile, server) as client:
        found = find(client, target, items)
        if found.indexes is not None or found.batch["total"] == 1:
            reasons = [_of_execution(view) for view in found.executions(client)]
            if found.batch["hold"] and not found.batch["done"]:
                reasons.insert(0, found.batch["hold"])
        else:
            reasons = _of_batch(client, found)
    if json:
        output.write_json({"batch_id": found.batch["id"], "reasons": reasons})
    else:
        for reason in reasons:
            output.write(reason)


def _of_execution(view: ExecutionView) -> str:
    where = f"Item {view['index']} ({view['name']})" if view["output_name"] else view["id"]
    reason = view["reason"] or Status(view["status"]).sentence
    text = f"{where}: {view['status']}. {reason}"
    if view["message"] and view["message"] not in reason:
        text += f"\n{view['message']}"
    return text


def _of_batch(client: Client, found: Found) -> list[str]:
    batch = found.batch
    reasons = [f"{batch['id']}: {counts_text(batch['counts'])} of {batch['total']}."]
    if batch["hold"] and not batch["done"]:
        reasons.append(batch["hold"])
    if failed(batch["counts"]):
        causes = Causes()
        for view in client.executions(batch["id"], {Status.FAILED: "1", "limit": ROWS})["executions"]:
            causes.add(view)
        reasons += [f"Failed: {line}" for line in causes.lines(10)]
        reasons.append(f"Run them again: rgrid retry {batch['id']} --failed")
    if waiting(batch["counts"]):
        held: dict[str, int] = {}
        for status in (Status.PENDING, Status.QUEUED, Status.BLOCKED):
            for view in client.executions(batch["id"], {"status": status, "limit": 100})["executions"]:
                held.setdefault(view["reason"], view["index"])
        reasons += [f"Waiting (for example item {index}): {reason}" for reason, index in held.items() if reason]
    return reasons
