"""``rgrid-api``: serve, bootstrap, migrate. Settings come from the environment; ``RGRID_DATABASE_URL`` and others."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from typing import TYPE_CHECKING

from pydantic import ValidationError

from rgrid_shared import __version__
from rgrid_shared.errors import RgridError, UsageError

if TYPE_CHECKING:
    from rgrid_api.settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(
        level=args.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = _settings()
        if args.command == "serve":
            from rgrid_api.server import serve

            return serve(settings, host=args.host, port=args.port, uds=args.uds)
        if args.command == "migrate":
            return asyncio.run(_migrate(settings))
        return asyncio.run(_bootstrap(settings, args.project))
    except RgridError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        print(f"rgrid-api: {error.message}{hint}", file=sys.stderr)  # noqa: T201
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rgrid-api", description="The control plane of rgrid.")
    parser.add_argument("--version", action="version", version=f"rgrid-api {__version__}")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="answer requests; migrates and bootstraps first")
    serve.add_argument("--host", help="address to listen on (RGRID_HOST)")
    serve.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (RGRID_PORT)")
    serve.add_argument("--uds", help="unix socket to listen on instead")
    commands.add_parser("migrate", help="bring the database's schema up to date")
    bootstrap = commands.add_parser("bootstrap", help="make the first project, its key and a runner token")
    bootstrap.add_argument("--project", help="the project's name (RGRID_BOOTSTRAP_PROJECT, else 'default')")
    return parser


def _settings() -> Settings:
    """What the environment says. Raises UsageError that names every variable that is missing or wrong."""
    from rgrid_api.settings import Settings

    try:
        return Settings.model_validate({})  # the rest comes from the environment
    except ValidationError as error:
        faults = [f"RGRID_{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors()]
        raise UsageError("the environment is not complete:\n  " + "\n  ".join(faults)) from None


async def _migrate(settings: Settings) -> int:
    from rgrid_api.db.migrate import HEAD, migrate

    changed = await migrate(settings.sqlalchemy_url)
    print(f"schema {HEAD}: {'brought up to date' if changed else 'already there'}")  # noqa: T201
    return 0


async def _bootstrap(settings: Settings, project: str | None) -> int:
    """Print the secrets as one JSON document: the only time that they are shown."""
    from rgrid_api.bootstrap import bootstrap, with_secrets
    from rgrid_api.db.migrate import migrate
    from rgrid_api.db.session import Database

    await migrate(settings.sqlalchemy_url)
    complete = with_secrets(settings, project)
    database = Database(settings.sqlalchemy_url)
    try:
        made = await bootstrap(database, complete)
    finally:
        await database.close()
    document = {
        "project": complete.bootstrap_project,
        "project_id": made.project_id,
        "api_key": made.key,
        "runner_token": made.runner_token,
    }
    print(json.dumps(document, indent=2))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
