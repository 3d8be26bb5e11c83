"""Every failure becomes one RFC 9457 problem, on HTTP and on WebSockets.

``install`` is the one call that an application needs: handlers, middleware, authenticator and use clock.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from rgrid_api.activity import UseClock
from rgrid_api.auth import Authenticator
from rgrid_api.middleware import ContractMiddleware
from rgrid_api.problems import PROBLEMS, problem_response, send_problem
from rgrid_shared.errors import (
    Internal,
    InvalidRequest,
    NotFound,
    Overloaded,
    RgridError,
    Unreachable,
    UsageError,
)

log = logging.getLogger(__name__)

RETRY_S: Final = 2.0
SHOWN_ERRORS: Final = 3
_UNION_MEMBERS: Final = frozenset({"str", "PathArg", "StdinStream", "StdinBlob"})
_BUSY_STATES: Final = frozenset({"57014", "55P03", "40001", "40P01"})
"""SQLSTATEs of a statement that another try may bring through: cancelled by its time limit, lock not available,
serialization failure, deadlock. PostgreSQL documentation, appendix A."""
_GONE_CLASSES: Final = ("08", "57P")
"""Connection exceptions, and a server that shuts down, crashed or is starting."""
_UNSTORABLE: Final = frozenset({"22000", "22003", "22008", "22021", "22P05"})
"""Data exceptions: a NUL or lone surrogate in a text, a number or time out of range."""
_FULL_CLASS: Final = "53"
"""Insufficient resources: connections, memory, disk."""


def install(app: FastAPI) -> None:
    """Give ``app`` its error handling, version headers, limits, authenticator and use clock.

    To be called before routers are included: they inherit the declared problems.
    """
    app.state.authenticator = Authenticator()
    app.state.use_clock = UseClock()
    app.router.responses.update(PROBLEMS)
    for kind in (
        RgridError,
        RequestValidationError,
        WebSocketRequestValidationError,
        HTTPException,
        DBAPIError,
        PoolTimeout,
        OSError,
    ):
        app.add_exception_handler(kind, cast("Any", _handle))  # it answers HTTP and WebSocket alike
    app.add_middleware(ContractMiddleware, use_clock=app.state.use_clock)


async def _handle(conn: HTTPConnection, exc: Exception) -> Response | None:
    error = as_rgrid_error(exc, conn)
    if isinstance(conn, WebSocket):
        await send_problem(conn, error)
        return None
    return problem_response(error)


def as_rgrid_error(exc: Exception, conn: HTTPConnection) -> RgridError:
    """The error that a client is told of ``exc``."""
    if isinstance(exc, RgridError):
        return exc
    if isinstance(exc, RequestValidationError | WebSocketRequestValidationError):
        return InvalidRequest(validation_detail(exc.errors()))
    if isinstance(exc, HTTPException):
        return exc.__cause__ if isinstance(exc.__cause__, RgridError) else _http_error(exc, conn)
    if isinstance(exc, PoolTimeout):
        return Overloaded("all database connections are busy", hint="try again", retry_after_s=RETRY_S)
    if isinstance(exc, DBAPIError):
        return database_error(exc)
    log.warning("no answer from the database or the store: %s", exc)
    return Unreachable(
        "the database or the store does not answer", hint="try again; `rgrid doctor` looks", retry_after_s=RETRY_S
    )


def database_error(exc: DBAPIError) -> RgridError:
    """Overloaded or Unreachable if another try may help; else the request's fault, or ours. Logged."""
    state = str(getattr(exc.orig, "sqlstate", None) or "")
    if state in _BUSY_STATES or state.startswith(_FULL_CLASS):
        log.warning("the database refused work (%s): %s", state, exc.orig)
        return Overloaded("the database is busy", hint="try again", retry_after_s=RETRY_S)
    if state in _UNSTORABLE:
        log.warning("the database cannot store a value (%s): %s", state, exc.orig)
        return InvalidRequest("the request holds a text or number that cannot be stored")
    connecting = exc.statement is None
    if connecting or exc.connection_invalidated or not state or state.startswith(_GONE_CLASSES):
        log.warning("the database does not answer (%s): %s", state, exc.orig)
        return Unreachable(
            "the database does not answer", hint="try again; `rgrid doctor` looks", retry_after_s=RETRY_S
        )
    log.error("the database refused a statement (%s)", state, exc_info=exc)
    return Internal("the database refused a statement", hint="the server's log says more")


def _http_error(exc: HTTPException, conn: HTTPConnection) -> RgridError:
    method = str(conn.scope.get("method", "GET"))
    if exc.status_code == 404:
        return NotFound(f"there is no route {method} {conn.url.path}", hint="see /openapi.json")
    error = UsageError(
        f"{method} does not go with {conn.url.path}" if exc.status_code == 405 else str(exc.detail),
        hint="see /openapi.json",
    )
    error.http_status = exc.status_code  # type: ignore[misc]
    return error


def validation_detail(errors: Sequence[Any]) -> str:
    """What is wrong with a request, each fault with the path of its field; the first few of them."""
    lines = list(dict.fromkeys(f"{field_path(error['loc'])} {_fault(error)}" for error in errors))
    more = f" (and {len(lines) - SHOWN_ERRORS} more)" if len(lines) > SHOWN_ERRORS else ""
    return "; ".join(lines[:SHOWN_ERRORS]) + more


def field_path(loc: Sequence[str | int]) -> str:
    """Where a fault lies: ``items[3].files[0].size``, ``query parameter limit``, ``the body``."""
    where, *parts = loc or ("body",)
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in _UNION_MEMBERS:
            path += f".{part}" if path else part
    if where == "body":
        return path or "the body"
    return f"{where} parameter {path}"


def _fault(error: Any) -> str:
    kind = error["type"]
    if kind == "json_invalid":
        return f"is not JSON: {error.get('ctx', {}).get('error', 'it cannot be read')}"
    if kind == "dict_type":
        return "is not a JSON object (sent with Content-Type: application/json)"
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not a known field"
    return f"is not valid: {error['msg']}"
