"""Forgets uploads that were begun and never completed, and frees what they hold in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rgrid_api.db.session import Database
    from rgrid_api.storage.s3 import ObjectStore

UPLOADS: Final = 200


class Janitor:
    """Cleans up uploads that were opened more than ``after_s`` seconds ago.

    That must be far longer than their URLs live: a PUT after the clean-up would leave an object that nobody knows.
    """

    def __init__(self, database: Database, store: ObjectStore, *, after_s: float) -> None:
        self._database = database
        self._store = store
        self._after_s = after_s

    async def run_once(self) -> int:
        """Forget up to 200 uploads; how many were. Raises ``Unreachable`` if the store does not answer.

        Rows go first: an upload that is being completed at this moment either keeps its row, or is not found.
        """
        async with self._database.transaction() as tx:
            rows = (await tx.run("uploads_abandoned", older_than_s=self._after_s, most=UPLOADS)).all()
        for row in rows:
            if row.s3_upload_id:
                await self._store.abort_multipart(row.object_key, row.s3_upload_id)
        await self._store.delete(row.object_key for row in rows)
        return len(rows)
