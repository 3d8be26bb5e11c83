"""``docs/api.md`` and the OpenAPI tell the truth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIWebSocketRoute
from support.control_plane import ControlPlane

from rgrid_shared import errors

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
ROW = re.compile(r"^\| `(GET|POST|PUT|DELETE|WS) (/[^`]*)` \|", re.MULTILINE)
CODE = re.compile(r"`([a-z_]+)`")


def shape(path: str) -> str:
    """A path without the names of its parameters."""
    return re.sub(r"{[^}]*}", "{}", path)


@pytest.fixture
def documented() -> set[tuple[str, str]]:
    """Methods and paths of the page's tables."""
    return {(method, shape(path)) for method, path in ROW.findall(PAGE.read_text("utf-8"))}


async def test_every_route_is_documented(plane: ControlPlane, documented: set[tuple[str, str]]) -> None:
    """Every route of the application stands in docs/api.md, and no other."""
    paths = plane.app.openapi()["paths"]
    real = {(method.upper(), shape(path)) for path, methods in paths.items() for method in methods}
    real |= {("WS", shape(path)) for path in _sockets(plane.app.router)}
    assert real == documented


async def test_every_answer_is_described(plane: ControlPlane) -> None:
    """In the OpenAPI every route has a summary, the type of its answer, and the problem that it may answer instead."""
    for path, methods in plane.app.openapi()["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert "application/problem+json" in operation["responses"]["default"]["content"], where
            good = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            if "204" not in operation["responses"]:
                assert good["content"]["application/json"]["schema"], where


def test_every_error_is_documented() -> None:
    """Every code of the error tree that a server answers stands in the table of docs/api.md."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RgridError)]
    codes = {kind.code for kind in kinds} - {errors.RgridError.code}
    assert codes <= set(CODE.findall(PAGE.read_text("utf-8")))


def _sockets(router: Any) -> list[str]:
    """Paths of WebSocket routes, however deep the routers that hold them."""
    found = []
    for route in router.routes:
        if isinstance(route, APIWebSocketRoute):
            found.append(route.path)
        elif hasattr(route, "original_router"):
            found += _sockets(route.original_router)
    return found
