"""Whether the parts that the API needs answer."""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from rgrid_api.services import Services
from rgrid_shared import __version__
from rgrid_shared.errors import RgridError
from rgrid_shared.views import Health

log = logging.getLogger(__name__)

PATIENCE_S = 3.0


async def readiness(services: Services) -> Health:
    """``ok`` if database and store both answer within ``PATIENCE_S``."""
    database, store = await asyncio.gather(_database(services), _store(services))
    return {
        "ok": database and store,
        "version": __version__,
        "parts": {"api": "ok", "database": _word(database), "store": _word(store)},
    }


async def _database(services: Services) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_S), services.database.read() as tx:
            await tx.run("ping")
    except (SQLAlchemyError, OSError) as error:
        log.warning("not ready: the database does not answer: %s", error)
        return False
    return True


async def _store(services: Services) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await services.store.ready()
    except (RgridError, OSError) as error:
        log.warning("not ready: the store does not answer: %s", error)
        return False


def _word(answers: bool) -> str:
    return "ok" if answers else "down"
