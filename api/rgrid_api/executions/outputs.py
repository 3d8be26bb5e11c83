"""What executions left behind: the accepted attempt's manifest, with presigned GETs for its objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rgrid_api import cursors
from rgrid_api.blobs.places import output_prefix
from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.errors import Internal
from rgrid_shared.protocol import Manifest
from rgrid_shared.views import OutputsPage, OutputsView

if TYPE_CHECKING:
    from rgrid_api.db.session import Tx

MAX_PAGE: Final = 500
NOTHING: Final[Manifest] = {"entries": [], "objects": [], "left_out": []}
"""What an execution leaves that never ran."""


def outputs_view(store: ObjectStore, row: Any) -> OutputsView:
    """The outputs of one row of ``outputs_of`` or ``outputs_page``. Pure computation.

    Raises ``Internal`` if the manifest names an object that is not the attempt's own: it is never shown.
    """
    manifest: Manifest = row.manifest or NOTHING
    prefix = output_prefix(row.project_id, row.execution_id, row.attempt)
    for stored in manifest["objects"]:
        if not stored["key"].startswith(prefix):
            raise Internal(f"the manifest of {row.execution_id} names an object that is not its own")
    return {
        "execution_id": row.execution_id,
        "batch_id": row.batch_id,
        "index": row.item_index,
        "output_name": row.output_name,
        "attempt": row.attempt,
        "entries": manifest["entries"],
        "objects": [
            {"size": stored["size"], "url": store.presign_get(stored["key"])} for stored in manifest["objects"]
        ],
        "left_out": manifest["left_out"],
    }


async def load_outputs(tx: Tx, store: ObjectStore, execution_ids: Sequence[str]) -> list[OutputsView]:
    """Outputs of those of ``execution_ids`` that have ended, by item."""
    rows = await tx.run("outputs_of", executions=list(execution_ids))
    return [outputs_view(store, row) for row in rows]


async def outputs_page(
    tx: Tx,
    store: ObjectStore,
    batch_id: str,
    ranges: Sequence[tuple[int, int]] | None,
    *,
    limit: int,
    cursor: str | None,
) -> OutputsPage:
    """Outputs of a batch's items that have ended, by index. ``ranges``: ends included, None = all.

    Raises ``InvalidRequest`` for a cursor that is none.
    """
    after = -1 if cursor is None else cursors.decode(cursor, (int,))[0]
    result = await tx.run(
        "outputs_page",
        batch_id=batch_id,
        after=after,
        lows=None if ranges is None else [low for low, _ in ranges],
        highs=None if ranges is None else [high for _, high in ranges],
        most=limit + 1,
    )
    rows = result.all()
    shown = rows[:limit]
    return {
        "outputs": [outputs_view(store, row) for row in shown],
        "next": cursors.encode(shown[-1].item_index) if len(rows) > limit else None,
    }
