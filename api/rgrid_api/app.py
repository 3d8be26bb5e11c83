"""The only wiring: which parts there are, how they start and stop, and which routes lead to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from fastapi import FastAPI

from rgrid_api import error_handlers
from rgrid_api.batches.routes import router as batches
from rgrid_api.blobs.routes import router as blobs
from rgrid_api.bootstrap import bootstrap
from rgrid_api.db.migrate import migrate
from rgrid_api.db.session import Database
from rgrid_api.events.hub import Hub
from rgrid_api.events.routes import router as events
from rgrid_api.executions.outputs_routes import router as outputs
from rgrid_api.executions.routes import router as executions
from rgrid_api.follow.routes import router as follow
from rgrid_api.keys.routes import router as keys
from rgrid_api.layers.routes import router as layers
from rgrid_api.logs.routes import router as logs
from rgrid_api.loops import background, loops_of
from rgrid_api.meta.routes import router as meta
from rgrid_api.queue.queue import Queue
from rgrid_api.runners.desk import Desk
from rgrid_api.runners.routes import router as runners
from rgrid_api.runners.runtimes import router as runtimes
from rgrid_api.services import Services
from rgrid_api.settings import Settings
from rgrid_api.storage.s3 import ObjectStore
from rgrid_api.vault import Vault
from rgrid_shared import __version__
from rgrid_shared.errors import RgridError

log = logging.getLogger(__name__)

ROUTERS: Final = (meta, keys, blobs, batches, executions, outputs, logs, events, follow, runners, runtimes, layers)
STORE_RETRY_S: Final = 2.0


def build(settings: Settings) -> Services:
    """The parts, not yet started: nothing is connected before it is used."""
    database = Database(
        settings.sqlalchemy_url, pool_size=settings.database_pool, max_overflow=settings.database_overflow
    )
    return Services(
        settings=settings,
        database=database,
        hub=Hub(settings.database_dsn),
        store=ObjectStore(
            endpoint=settings.s3_endpoint,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
            bucket=settings.s3_bucket,
            region=settings.s3_region,
            public_endpoint=settings.s3_public_endpoint or None,
            single_put_max=settings.s3_single_put_max,
        ),
        vault=Vault(settings.secret_key.get_secret_value()),
        queue=Queue(database, settings.timing),
    )


@contextlib.asynccontextmanager
async def running(services: Services, *, loops: bool) -> AsyncIterator[None]:
    """Start the parts: schema, first project, notifications, loops. Stop them at the end of the block."""
    await migrate(services.settings.sqlalchemy_url)
    await bootstrap(services.database, services.settings)
    await services.hub.start()
    bucket = asyncio.create_task(_ensure_bucket(services.store), name="bucket")
    try:
        async with background(loops_of(services) if loops else []):
            yield
    finally:
        bucket.cancel()
        await asyncio.gather(bucket, return_exceptions=True)
        await services.hub.stop()
        await services.database.close()


async def _ensure_bucket(store: ObjectStore) -> None:
    """Make the bucket once the store answers. Starting does not wait for it; ``/readyz`` tells."""
    while True:
        try:
            await store.ensure_bucket()
        except RgridError as error:
            log.warning("the object store cannot be used yet: %s", error.message)
            await asyncio.sleep(STORE_RETRY_S)
        else:
            return


def create_app(settings: Settings, *, loops: bool = True) -> FastAPI:
    """The ASGI application. Its lifespan migrates, bootstraps and starts everything.

    ``loops``: whether this process also sweeps, promotes and archives (tests call ``run_once`` themselves).
    """
    services = build(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(services, loops=loops):
            yield

    app = FastAPI(title="rgrid", version=__version__, lifespan=lifespan)
    app.state.services = services
    app.state.desk = Desk.of(services)
    error_handlers.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
