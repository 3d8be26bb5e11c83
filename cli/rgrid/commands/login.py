"""``rgrid login`` and ``rgrid init``: connect to a server and keep its key."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final

import typer

from rgrid import credentials, output
from rgrid.client import Client
from rgrid.config import Server, checked, home
from rgrid.verbs import Json, application
from rgrid_shared.errors import UsageError

KEY_PREFIX: Final = "rgr_"

app = application()


@app.verb()
def login(
    server: Annotated[str | None, typer.Option("--server", metavar="URL", help="The grid's address.")] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="The key; `-` reads it from stdin (shells remember flags)."),
    ] = None,
    profile: Annotated[str, typer.Option("--profile", metavar="NAME", help="Keep it under this name.")] = (
        credentials.DEFAULT
    ),
    json: Json = False,
) -> None:
    """Connect to a grid: check the address and the key, and keep both for the commands that follow.

    Without flags it asks for them on a terminal. The key is kept in ~/.rgrid/credentials, which only you can read.
    """
    output.mode.json = json
    url = server or os.environ.get("RGRID_SERVER") or _ask("Server address (https://…): ", "--server")
    if "://" not in url:
        url = f"https://{url}"
    url = url.rstrip("/")
    checked(Server(url, ""))
    secret = sys.stdin.readline().strip() if key == "-" else key or os.environ.get("RGRID_API_KEY") or _ask_secret()
    if not secret.startswith(KEY_PREFIX) or not secret.isascii() or not secret.isprintable():
        raise UsageError(f"That is no key of rgrid: they begin with {KEY_PREFIX}.", hint="rgrid keys create NAME")
    with Client(Server(url, secret, profile=profile), say=output.say) as client:
        meta = client.meta()
    path = credentials.save(home(), profile, credentials.Entry(url, secret))
    if json:
        document = {"server": url, "profile": profile, "project": meta["project"], "version": meta["version"]}
        output.write_json(document)
    else:
        output.say(f"connected to {url}, project {meta['project']} (rgrid {meta['version']}); key kept in {path}")


def _ask(question: str, flag: str) -> str:
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)):
        raise UsageError(f"{flag} is missing and this is not a terminal.", hint="rgrid login --server URL --key -")
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline().strip()
    if not answer:
        raise UsageError("No address was given.", hint="rgrid login --server URL")
    return answer


def _ask_secret() -> str:
    if not output.is_terminal(sys.stdin):
        raise UsageError("--key is missing and this is not a terminal.", hint="rgrid login --server URL --key - < FILE")
    from getpass import getpass

    return getpass("Key (rgr_…): ", sys.stderr).strip()
