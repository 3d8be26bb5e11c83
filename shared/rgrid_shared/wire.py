"""How wire types are written.

A wire type is a ``TypedDict``: JSON as it is, checked by mypy on both sides and validated by pydantic where it enters
the API. Nothing here imports pydantic: its import costs a command 0.19 s (measured), and neither the ``rgrid``
command nor the runner needs it.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from annotated_types import Ge, Le, Len

T = TypeVar("T")


def closed(cls: type[T]) -> type[T]:
    """Refuse unknown keys where pydantic validates this ``TypedDict``: a misspelt option must not be lost silently."""
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    return cls


Time = str
"""RFC 3339 in UTC with microseconds: ``2026-01-02T03:04:05.000006Z``."""

Sha256 = Annotated[str, Len(64, 64)]
"""64 lower-case hex digits."""

Bytes = Annotated[int, Ge(0), Le(2**53)]
"""A count of bytes."""

Count = Annotated[int, Ge(0), Le(2**53)]

Base64 = str
"""Bytes in standard base 64."""

ShortText = Annotated[str, Len(0, 500)]

RelPath = Annotated[str, Len(1, 4096)]
"""A path relative to the workspace root: ``/`` between parts, no ``.`` or ``..`` part, not absolute, no NUL.

Bytes that are not UTF-8 stand as lone surrogates in Python and are not allowed on the wire.
"""

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The hash of no bytes. Blobs of size 0 are never uploaded: every side knows them."""


def path_problem(path: str) -> str | None:
    """Why ``path`` is no ``RelPath``, or None if it is one."""
    if not path:
        return "is empty"
    if "\0" in path:
        return "holds a NUL byte"
    if path.startswith("/"):
        return "is absolute"
    parts = path.split("/")
    if ".." in parts:
        return "climbs with '..'"
    if "" in parts or "." in parts:
        return "is not in its shortest form"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    if size > 4096 or any(len(part.encode()) > 255 for part in parts):
        return "is too long"
    return None
