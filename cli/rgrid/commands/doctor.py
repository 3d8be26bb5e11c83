"""``rgrid doctor``: does everything work, and if not, what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from rgrid import output
from rgrid.config import configured_server, home
from rgrid.verbs import Json, Profile, ServerUrl, application

if TYPE_CHECKING:
    from rgrid.local.checks import Check

app = application()


@app.verb()
def doctor(profile: Profile = None, server: ServerUrl = None, json: Json = False) -> None:
    """Check every part of the grid that commands would use, by using it. Exits with 1 if something is broken."""
    output.mode.json = json
    found: list[Check] = []
    for check in _checks(profile, server):
        found.append(check)
        if not json:
            _show(check)
    broken = [check for check in found if check.ok is False]
    if json:
        output.write_json({"ok": not broken, "checks": [check.as_dict() for check in found]})
    elif broken:
        output.write(f"\n{len(broken)} of {len(found)} checks failed.")
    else:
        output.write("\nEverything that was checked works.")
    if broken:
        raise typer.Exit(1)


def _checks(profile: str | None, server: str | None) -> Iterator[Check]:
    from rgrid.local import checks
    from rgrid.local.layout import locate

    target = configured_server(profile, server)
    if target is None:
        yield from checks.local_checks(locate(home()))
    else:
        yield from checks.server_checks(target)
        yield from checks.machine_checks(home() if home().exists() else home().parent)


def _show(check: Check) -> None:
    mark, colour = {True: ("✓", output.GREEN), False: ("✗", output.RED), None: ("–", output.DIM)}[check.ok]
    sys.stdout.write(output.paint(mark, colour) + " ")
    output.write(f"{check.name}: {check.detail}")
    if check.hint:
        output.write(f"    → {check.hint}")
