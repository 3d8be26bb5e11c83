"""Which local directory a batch's outputs belong to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rgrid.runs import OUTPUTS
from rgrid.transfer.placement import Layout

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid.runs import Record
    from rgrid_shared.views import BatchView


def layout_for(
    client: Client, batch: BatchView, record: Record | None, *, dest: str | None = None, local_root: str | None = None
) -> Layout:
    """Where outputs go: ``dest`` if the user names it, else what was recorded at submission.

    A single run's outputs then land where the script would have left them, a batch's in the recorded directory. Without
    a record (another machine): the current directory, or ``outputs`` below it for a batch.
    """
    if record is None:
        if dest is None and local_root is not None and batch["single"]:
            return Layout(local_root, None)
        cwd = client.batch(batch["id"])["spec"]["cwd"]
        here = os.getcwd()
        fallback = here if batch["single"] else os.path.join(here, OUTPUTS)
        return Layout(os.path.abspath(dest) if dest else fallback, cwd)
    if dest or record.dest:
        return Layout(os.path.abspath(dest or record.dest), record.cwd)
    if batch["single"]:
        return Layout(local_root or record.root, None)
    return Layout(os.path.join(record.root, record.cwd, OUTPUTS), record.cwd)
