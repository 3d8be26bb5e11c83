"""The first project, its first key and the first runner token."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from rgrid_api import auth
from rgrid_api.db.session import Database
from rgrid_api.settings import Settings


@dataclass(frozen=True, slots=True)
class Made:
    """What users and runners of a project need. The secrets are in clear: only their hashes are stored."""

    project_id: str
    key: str | None
    runner_token: str | None


async def bootstrap(database: Database, settings: Settings) -> Made:
    """Make sure that what ``RGRID_BOOTSTRAP_*`` names exists. Any number of processes may do this at once."""
    key, token = _clear(settings.bootstrap_key), _clear(settings.bootstrap_runner_token)
    project_id = ""
    if settings.bootstrap_project or token is not None:
        async with database.transaction() as tx:
            if settings.bootstrap_project:
                project_id = await auth.ensure_project(tx, settings.bootstrap_project)
                if key is not None:
                    await auth.ensure_key(tx, project_id, key, "bootstrap")
            if token is not None:
                await auth.ensure_runner_token(tx, token, "bootstrap")
    return Made(project_id, key, token)


def with_secrets(settings: Settings, project: str | None) -> Settings:
    """``settings`` with a project, a key and a runner token to bootstrap, made up where none is given."""
    return settings.model_copy(
        update={
            "bootstrap_project": project or settings.bootstrap_project or "default",
            "bootstrap_key": settings.bootstrap_key or SecretStr(auth.new_secret(auth.KEY_PREFIX)),
            "bootstrap_runner_token": settings.bootstrap_runner_token or SecretStr(auth.new_secret(auth.TOKEN_PREFIX)),
        }
    )


def _clear(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
