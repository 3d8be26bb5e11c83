"""A plan becomes a batch: bytes up, spec and items in pages, one idempotency key for all tries."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rgrid.submit import runtimes
from rgrid.submit.hashing import Hashed
from rgrid.submit.missing import missing, summary
from rgrid.submit.plan import Plan
from rgrid.submit.progress import Progress, Silent
from rgrid_shared.errors import Conflict, IdempotencyConflict, RgridError
from rgrid_shared.specs import PAGE_ITEMS, BatchSubmit, Item

if TYPE_CHECKING:
    from collections.abc import Callable

    from rgrid.client import Client
    from rgrid_shared.views import BatchView

_PAGE_FILES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Submitted:
    """A batch that the grid has taken, and the plan that it came from."""

    batch: BatchView
    plan: Plan


def send(
    client: Client,
    plan: Plan,
    *,
    say: Callable[[str], None],
    progress: Callable[[str, int], Progress] | None = None,
    routine: bool = True,
) -> Submitted:
    """Upload what the grid lacks and submit the batch. ``progress``: makes a bar for a label and a count of bytes.

    ``routine``: say how much travels even if nothing is odd about it.

    Raises:
        RgridError: the grid refused or cannot be reached; then nothing runs.
    """
    if plan.request.runtime:
        _check_runtime(client, plan.spec["runtime"])
    absent = missing(client, plan.files)
    if routine:
        say(summary(plan, absent))
    _upload(client, plan, absent, progress)
    key = os.urandom(16).hex()
    try:
        batch = _submit(client, plan, key)
    except IdempotencyConflict:
        raise
    except Conflict:
        # A blob may have been collected between the question and the submission: ask again, once.
        absent = missing(client, plan.files)
        if not absent:
            raise
        _upload(client, plan, absent, progress)
        batch = _submit(client, plan, key)
    if batch["hold"]:
        say(batch["hold"])
    return Submitted(batch, plan)


def _check_runtime(client: Client, runtime: str) -> None:
    """Refuse a runtime that was asked for by name and that no runner has ever offered."""
    known = client.runtimes()
    offered = [each["name"] for each in known["runtimes"]]
    if offered:
        runtimes.check_offered(runtime, offered, known["allowed_images"])


def _upload(client: Client, plan: Plan, absent: list[Hashed], progress: Callable[[str, int], Progress] | None) -> None:
    if absent:
        from rgrid.submit.upload import upload  # brings thread pools along, which a repeated run does not need

        size = sum(file.size for file in absent)
        upload(client, plan, absent, progress("Sending", size) if progress else Silent())


def _submit(client: Client, plan: Plan, key: str) -> BatchView:
    request = plan.request
    pages = _pages(plan.items)
    body: BatchSubmit = {
        "spec": plan.spec,
        "items": next(pages),
        "total": len(plan.items),
        "env": dict(plan.env),
        "name": request.name,
        "metadata": dict(request.metadata),
        "priority": request.priority,
        "parallel": request.parallel,
        "max_fails": request.max_fails,
        "canary": request.canary,
        "single": plan.single,
    }
    batch = client.submit(body, key)
    first = len(body["items"])
    try:
        for page in pages:
            batch = client.items(batch["id"], {"first": first, "items": page})
            first += len(page)
    except (RgridError, KeyboardInterrupt):
        # Without its last page the batch never starts; say so to the grid as well, if it can be reached.
        with suppress(RgridError):
            client.cancel(batch["id"], None, reason="the submission was broken off")
        raise
    return batch


def _pages(items: list[Item]) -> Iterator[list[Item]]:
    """The items in order, in pages that a request can hold."""
    page: list[Item] = []
    files = 0
    for item in items:
        if page and (len(page) == PAGE_ITEMS or files + len(item["files"]) > _PAGE_FILES):
            yield page
            page, files = [], 0
        page.append(item)
        files += len(item["files"])
    yield page
