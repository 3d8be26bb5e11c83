"""How an error goes out: as an HTTP answer, or as the last message of a WebSocket."""

from __future__ import annotations

import math
from typing import Any, Final

from pydantic import TypeAdapter
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from rgrid_api.answers import answer
from rgrid_shared.errors import NotAuthorised, Problem, RgridError
from rgrid_shared.views import ProblemMessage

PROBLEM_TYPE: Final = "application/problem+json"
POLICY_VIOLATION: Final = 1008
"""The close code after a problem."""

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "A problem, as RFC 9457 describes it. `code` is stable; `hint` is the next thing to type.",
        "content": {PROBLEM_TYPE: {"schema": TypeAdapter(Problem).json_schema()}},
    }
}
"""What every route may answer besides what it promises, for the OpenAPI."""


def problem_response(error: RgridError) -> Response:
    """The HTTP answer for ``error``."""
    response = answer(error.problem(), error.http_status)
    response.headers["content-type"] = PROBLEM_TYPE
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, NotAuthorised):
        response.headers["www-authenticate"] = "Bearer"
    return response


async def send_problem(socket: WebSocket, error: RgridError) -> None:
    """Tell a WebSocket's client of ``error`` and close; harmless if the client has gone."""
    message: ProblemMessage = {
        "type": "problem",
        "status": error.http_status,
        "code": error.code,
        "detail": error.message,
        "hint": error.hint,
    }
    try:
        if socket.application_state is WebSocketState.CONNECTING:
            await socket.accept()
        if socket.application_state is WebSocketState.CONNECTED:
            await socket.send_json(message)
            await socket.close(POLICY_VIOLATION)
    except WebSocketDisconnect:
        return
