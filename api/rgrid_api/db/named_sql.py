"""SQL that lives in ``.sql`` files, found by name.

A file holds statements, each below a line ``-- name: something``. Parameters are ``:name``; a cast of one is written
``CAST(:name AS type)``. Names are unique over all files of the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from sqlalchemy import TextClause, text

_NAME = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)


def parse(source: str) -> dict[str, str]:
    """The statements of one file by name. Raises ValueError for a name that stands twice or names nothing."""
    parts = _NAME.split(source)
    statements: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        statement = body.strip().removesuffix(";")
        if not statement or name in statements:
            raise ValueError(f"statement {name!r} is empty or stands twice")
        statements[name] = statement
    return statements


def sql_files(folder: Traversable) -> Iterator[Traversable]:
    """All ``.sql`` files below a folder of the package."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from sql_files(entry)
        elif entry.name.endswith(".sql"):
            yield entry


@cache
def statements() -> Mapping[str, TextClause]:
    """Every named statement of ``rgrid_api``, ready to execute."""
    found: dict[str, TextClause] = {}
    for file in sql_files(files("rgrid_api")):
        for name, statement in parse(file.read_text("utf-8")).items():
            if name in found:
                raise ValueError(f"statement {name!r} stands in two files")
            found[name] = text(statement)
    return found
