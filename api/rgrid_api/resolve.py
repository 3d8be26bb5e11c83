"""What a client may call a batch or an execution: its id, a unique prefix of it, ``last``, ``last:N``.

Everything is looked up within the project that asks, so another project's id is exactly as unknown as one that never
was.
"""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import ColumnElement, Table, select

from rgrid_api.db.session import Tx
from rgrid_api.db.tables import batches, executions
from rgrid_shared.errors import Conflict, InvalidRequest, NotFound
from rgrid_shared.ids import ALPHABET, BODY_LENGTH, Kind, kind_of

MIN_PREFIX: Final = 4
"""Characters of an id's body that a prefix must hold."""
_LAST: Final = re.compile(r"last(?::(\d{1,6}))?")
_NOUNS: Final = {Kind.BATCH: "batch", Kind.EXECUTION: "execution"}


async def batch_id(tx: Tx, project_id: str, name: str) -> str:
    """The id of the batch that ``name`` means.

    Raises NotFound, or Conflict if several ids begin with ``name``. ``last`` counts only batches that are complete.
    """
    return await _resolve(tx, batches, Kind.BATCH, project_id, name, batches.c.sealed_at.is_not(None))


async def execution_id(tx: Tx, project_id: str, name: str) -> str:
    """The id of the execution that ``name`` means. Raises NotFound, or Conflict if several ids begin with it."""
    return await _resolve(tx, executions, Kind.EXECUTION, project_id, name, executions.c.latest)


async def _resolve(tx: Tx, table: Table, kind: Kind, project_id: str, name: str, counted: ColumnElement[bool]) -> str:
    ids = select(table.c.id).where(table.c.project_id == project_id)
    last = _LAST.fullmatch(name)
    if last:
        number = int(last[1] or 1)
        if number < 1:
            raise InvalidRequest(f"{name} means nothing; last:1 is the newest")
        found = await tx.conn.execute(ids.where(counted).order_by(table.c.id.desc()).offset(number - 1).limit(1))
    else:
        _check_form(kind, name)
        room = len(kind) + 1 + BODY_LENGTH - len(name)
        low, high = name + ALPHABET[0] * room, name + ALPHABET[-1] * room
        found = await tx.conn.execute(ids.where(table.c.id.between(low, high)).order_by(table.c.id).limit(2))
    matches = list(found.scalars())
    if not matches:
        raise NotFound(f"there is no {_NOUNS[kind]} {name}", hint="rgrid list")
    if len(matches) > 1:
        raise Conflict(f"several ids begin with {name}", hint="type more of it")
    return str(matches[0])


def _check_form(kind: Kind, name: str) -> None:
    named = kind_of(name)
    if named is not kind and named in _NOUNS:
        raise NotFound(f"{name} names another kind of thing: {_NOUNS[named]}, not {_NOUNS[kind]}", hint="rgrid list")
    if named is not kind:
        raise NotFound(f"there is no {_NOUNS[kind]} {name[:80]!r}", hint="rgrid list")
    if len(name) < len(kind) + 1 + MIN_PREFIX:
        raise NotFound(f"{name} is too short", hint=f"type at least {MIN_PREFIX} characters after {kind}_")
