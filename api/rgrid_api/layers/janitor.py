"""Frees what layers hold in the store and nobody needs: uploads that were never published, archives out of use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rgrid_api.db.session import Database
    from rgrid_api.storage.s3 import ObjectStore

MOST: Final = 100
UNUSED_S: Final = 90 * 24 * 3600.0
"""An archive that no runner asked for in 90 days goes; who needs the layer then builds it."""


class LayerJanitor:
    """Cleans up uploads that were opened more than ``after_s`` seconds ago, and archives unused for ``unused_s``."""

    def __init__(self, database: Database, store: ObjectStore, *, after_s: float, unused_s: float = UNUSED_S) -> None:
        self._database = database
        self._store = store
        self._after_s = after_s
        self._unused_s = unused_s

    async def run_once(self) -> int:
        """Free up to 200 objects; how many were. Raises ``Unreachable`` if the store does not answer."""
        async with self._database.transaction() as tx:
            uploads = (await tx.run("layer_uploads_abandoned", older_than_s=self._after_s, most=MOST)).all()
            unused = (await tx.run("layer_archives_unused", older_than_s=self._unused_s, most=MOST)).scalars().all()
        for row in uploads:
            if row.s3_upload_id:
                await self._store.abort_multipart(row.object_key, row.s3_upload_id)
        keys = [*(row.object_key for row in uploads), *unused]
        await self._store.delete(keys)
        return len(keys)
