"""What handlers ask for: the services, and who is asking. The same for HTTP and WebSocket."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from rgrid_api.auth import Authenticator, RunnerAuth, UserAuth
from rgrid_api.services import Services


def services(conn: HTTPConnection) -> Services:
    """The process's services."""
    return cast("Services", conn.app.state.services)


def authenticator(conn: HTTPConnection) -> Authenticator:
    """The process's authenticator; ``error_handlers.install`` puts it there."""
    return cast("Authenticator", conn.app.state.authenticator)


async def user(conn: HTTPConnection) -> UserAuth:
    """The user who is asking. Raises NotAuthorised."""
    return await authenticator(conn).user(services(conn).database, conn.headers.get("authorization"))


async def runner(conn: HTTPConnection) -> RunnerAuth:
    """The runner that is asking. Raises NotAuthorised."""
    return await authenticator(conn).runner(services(conn).database, conn.headers.get("authorization"))


Parts = Annotated[Services, Depends(services)]
CurrentUser = Annotated[UserAuth, Depends(user)]
CurrentRunner = Annotated[RunnerAuth, Depends(runner)]
