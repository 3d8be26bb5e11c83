"""``--exact EXECUTION``: the packages of an earlier run, taken as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rgrid.selectors import find
from rgrid.submit.request import Exact
from rgrid_shared.errors import NotFound
from rgrid_shared.specs import Requirements

if TYPE_CHECKING:
    from rgrid.client import Client


def packages_of(client: Client, target: str) -> Exact:
    """What the run that ``target`` names was given; of a batch any item's, for all had the same.

    Raises UsageError or NotFound if there is no such run, Conflict if it never got as far as its packages.
    """
    found = find(client, target)
    execution = next(found.executions(client), None)
    if execution is None:
        raise NotFound(f"{target} has no executions yet.", hint="rgrid list shows what there is.")
    lock = client.lock(execution["id"])
    if not lock["lines"]:
        return Exact(None, lock["runtime"])
    requirements: Requirements = {"lines": lock["lines"], "source": "execution", "requires_python": "", "exact": True}
    if lock["options"]:
        requirements["options"] = lock["options"]
    return Exact(requirements, lock["runtime"])
