"""Batches go: their rows page by page, then the objects of their outputs.

The first step hides the batch, so nobody sees it half gone; a deletion that was cut short is finished by the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from starlette.background import BackgroundTask

from rgrid_api.auth import UserAuth
from rgrid_api.services import Services
from rgrid_api.storage.s3 import ObjectStore
from rgrid_shared.errors import Conflict, RgridError

log = logging.getLogger(__name__)

PAGE: Final = 2_000
"""Executions removed in one transaction."""


async def delete(services: Services, who: UserAuth, batch_id: str) -> BackgroundTask:
    """Remove a batch that has ended, or was never completed. Raises Conflict if it is still going on.

    What is given back removes its output objects, after the answer: if that fails they are orphans in the store,
    which costs room but shows nothing to anybody.
    """
    async with services.database.transaction() as tx:
        hidden = await tx.run("batch_hide", id=batch_id, project_id=who.project_id)
        if hidden.one_or_none() is None:
            raise Conflict(f"batch {batch_id} has not ended", hint=f"rgrid cancel {batch_id}")
    keys: list[str] = []
    number = PAGE
    while number == PAGE:
        async with services.database.transaction() as tx:
            await tx.run("plan_for_many")
            row = (await tx.run("batch_delete_some", batch_id=batch_id, number=PAGE)).one()
            number = row.number
            keys += row.keys
    async with services.database.transaction() as tx:
        await tx.run("events_forget", project_id=who.project_id, batch_id=batch_id)
        await tx.run("batch_delete", id=batch_id)
    return BackgroundTask(remove_objects, services.store, batch_id, keys)


async def remove_objects(store: ObjectStore, batch_id: str, keys: Sequence[str]) -> None:
    """Remove objects as well as the store lets us."""
    try:
        if keys:
            await store.delete(keys)
    except RgridError as error:
        log.warning("%d output objects of the deleted batch %s may be left: %s", len(keys), batch_id, error.message)
