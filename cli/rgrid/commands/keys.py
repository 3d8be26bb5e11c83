"""``rgrid keys``: API keys of the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rgrid import output
from rgrid.session import connect
from rgrid.times import seconds_of, time_text
from rgrid.verbs import Json, Profile, Quiet, ServerUrl, Utc, Yes, application
from rgrid_shared.errors import NotFound, UsageError

if TYPE_CHECKING:
    from rgrid_shared.views import KeyView

app = application(no_args_is_help=True, help="Make, list and revoke API keys.")


@app.verb()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DURATION", help="End it after this long: 30d.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Make a key. Its secret is shown this once; -q prints nothing else."""
    output.mode.json, output.mode.quiet = json, quiet
    seconds = seconds_of(expires) if expires else None
    if seconds is not None and seconds < 1:
        raise UsageError(f"--expires {expires} is less than a second.")
    with connect(profile, server) as client:
        key = client.create_key(name, None if seconds is None else int(seconds))
    if json:
        output.write_json(key)
    elif quiet:
        output.write(key["secret"])
    else:
        output.write(key["secret"])
        output.say("this is the only time that the key is shown. Use it with: rgrid login")


@app.verb("list")
def list_(
    json: Json = False, quiet: Quiet = False, utc: Utc = False, profile: Profile = None, server: ServerUrl = None
) -> None:
    """List the project's keys."""
    output.mode.json, output.mode.quiet = json, quiet
    with connect(profile, server) as client:
        page = client.keys()
    if json:
        output.write_json(page)
    elif quiet:
        for key in page["keys"]:
            output.write(key["id"])
    else:
        output.table(
            ["NAME", "KEY", "CREATED", "LAST USED", "ENDS", "ID"],
            [
                [
                    key["name"],
                    key["prefix"] + "…",
                    time_text(key["created_at"], utc=utc),
                    time_text(key["last_used_at"], utc=utc) or "never",
                    _end(key, utc=utc),
                    key["id"],
                ]
                for key in page["keys"]
            ],
        )


@app.verb()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id or name, or how it begins.")],
    yes: Yes = False,
    json: Json = False,
    profile: Profile = None,
    server: ServerUrl = None,
) -> None:
    """Revoke a key; it stops working within seconds. Asks first."""
    output.mode.json = json
    with connect(profile, server) as client:
        found = _one(client.keys()["keys"], key)
        if not output.confirm(f"Revoke key {found['name']!r} ({found['prefix']}…)?", yes=yes):
            raise typer.Exit(1)
        client.revoke_key(found["id"])
    if json:
        output.write_json({"revoked": found["id"]})
    else:
        output.say(f"revoked {found['name']!r}")


def _one(keys: list[KeyView], text: str) -> KeyView:
    live = [key for key in keys if key["revoked_at"] is None]
    found = [key for key in live if text in (key["id"], key["name"])]
    found = found or [key for key in live if key["id"].startswith(text) or text.startswith(key["prefix"])]
    if not found:
        raise NotFound(f"There is no live key {text!r}.", hint="rgrid keys list")
    if len(found) > 1:
        raise UsageError(f"{text!r} names {len(found)} keys.", hint="Use its id: rgrid keys list")
    return found[0]


def _end(key: KeyView, *, utc: bool) -> str:
    if key["revoked_at"]:
        return f"revoked {time_text(key['revoked_at'], utc=utc)}"
    return time_text(key["expires_at"], utc=utc) or "never"
