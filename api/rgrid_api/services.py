"""What request handlers and loops work with: one value, built once by ``app.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rgrid_api.db.session import Database
    from rgrid_api.events.hub import Hub
    from rgrid_api.queue.queue import Queue
    from rgrid_api.settings import Settings
    from rgrid_api.storage.s3 import ObjectStore
    from rgrid_api.vault import Vault


@dataclass(frozen=True, slots=True)
class Services:
    """Everything below the routes."""

    settings: Settings
    database: Database
    hub: Hub
    store: ObjectStore
    vault: Vault
    queue: Queue
