"""``rgrid runners``: the hosts that run scripts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from rgrid import output
from rgrid.output import Cell
from rgrid.session import connect
from rgrid.times import ago_text, size_text
from rgrid.verbs import Json, Profile, Quiet, ServerUrl, application

if TYPE_CHECKING:
    from rgrid_shared.views import RunnerView

COLOURS: dict[Literal["online", "draining", "offline"], str] = {
    "online": output.GREEN,
    "draining": output.YELLOW,
    "offline": output.RED,
}

app = application()


@app.verb()
def runners(json: Json = False, quiet: Quiet = False, profile: Profile = None, server: ServerUrl = None) -> None:
    """List the hosts that run scripts."""
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        page = client.runners()
    if json:
        output.write_json(page)
    elif quiet:
        for runner in page["runners"]:
            output.write(runner["id"])
    elif not page["runners"]:
        output.say("there is no runner; on a host that should run scripts, start: rgrid-runner")
    else:
        now = datetime.now(UTC)
        heads = ["NAME", "STATE", "BUSY", "CPU", "MEMORY", "GPUS", "RUNTIMES", "LABELS", "BACKEND", "SEEN", "ID"]
        output.table(heads, [_row(runner, now) for runner in page["runners"]])


def _row(runner: RunnerView, now: datetime) -> list[str]:
    has = runner["resources"]
    models = [gpu["model"] for gpu in has["gpus"]]
    return [
        runner["name"],
        Cell(runner["state"], COLOURS[runner["state"]]),
        f"{runner['busy']}/{runner['slots']}",
        f"{has['cpu_millis'] / 1000:g}",
        size_text(has["memory"]),
        ", ".join(f"{models.count(model)} × {model}" for model in dict.fromkeys(models)),
        " ".join(sorted(runner["runtimes"])),
        " ".join(f"{name}={value}" for name, value in sorted(runner["labels"].items())),
        runner["backend"],
        ago_text(runner["last_seen_at"], now),
        runner["id"],
    ]
