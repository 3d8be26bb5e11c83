"""API keys of a project."""

from __future__ import annotations

from sqlalchemy import RowMapping

from rgrid_api.auth import KEY_PREFIX, hash_of, new_secret, shown
from rgrid_api.db.session import Tx
from rgrid_api.new_ids import new_id
from rgrid_api.times import to_wire
from rgrid_shared.errors import NotFound
from rgrid_shared.ids import Kind
from rgrid_shared.specs import KeyCreate
from rgrid_shared.views import KeysPage, KeyView, NewKeyView


def key_view(row: RowMapping) -> KeyView:
    """A key without its secret."""
    return {
        "id": row["id"],
        "name": row["name"],
        "prefix": row["prefix"],
        "created_at": to_wire(row["created_at"]),
        "last_used_at": to_wire(row["last_used_at"]),
        "expires_at": to_wire(row["expires_at"]),
        "revoked_at": to_wire(row["revoked_at"]),
    }


async def create(tx: Tx, project_id: str, wanted: KeyCreate) -> NewKeyView:
    """Make a key. Its secret stands in this answer and nowhere else."""
    secret = new_secret(KEY_PREFIX)
    made = await tx.run(
        "key_insert",
        id=new_id(Kind.KEY),
        project_id=project_id,
        label=wanted["name"],
        prefix=shown(secret),
        hash=hash_of(secret),
        expires_in_s=wanted["expires_in_s"],
    )
    return {**key_view(made.mappings().one()), "secret": secret}


async def keys_of(tx: Tx, project_id: str) -> KeysPage:
    """All keys of the project, the oldest first; revoked and expired ones too."""
    return {"keys": [key_view(row) for row in (await tx.run("keys_of_project", project_id=project_id)).mappings()]}


async def revoke(tx: Tx, project_id: str, key_id: str) -> None:
    """Revoke a key; revoking it again changes nothing. Raises NotFound."""
    if (await tx.run("key_revoke", project_id=project_id, id=key_id)).one_or_none() is None:
        raise NotFound(f"there is no key {key_id[:80]}", hint="rgrid keys list")
