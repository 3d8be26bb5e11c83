"""Attaching to what was just submitted, or to what was submitted before: the one door to everything in here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rgrid.client import Client
    from rgrid_shared.views import BatchView


@dataclass(frozen=True, slots=True)
class Options:
    """How to attach.

    ``json``: NDJSON on stdout in place of output and notes. ``quiet``: nothing of rgrid's own but problems.
    ``place``: bring outputs home (False for ``--remote-only``). ``dest``: absolute directory for the outputs, None to
    use the place recorded at submission. ``flat``: batch outputs without a directory for each item.
    ``deletions``: files that the script deleted are deleted here too, if they still are what was submitted.
    """

    json: bool = False
    quiet: bool = False
    place: bool = True
    dest: str | None = None
    flat: bool = False
    deletions: bool = False


def attach_single(
    client: Client, batch: BatchView, *, local_root: str | None = None, options: Options, stdin: int | None = None
) -> int:
    """Show a single run's output as it comes, bring its outputs home, and return its exit code.

    ``local_root``: absolute directory here that stands for the workspace's root; None to take it from the record.
    ``stdin``: a file descriptor whose bytes are streamed to the script. Ctrl-C detaches and returns 130; a second one
    within two seconds cancels. Raises ``RgridError`` if the watching itself cannot go on.
    """
    from rgrid.follow.single import watch

    return watch(client, batch, local_root=local_root, options=options, stdin=stdin)


def attach_batch(client: Client, batch: BatchView, *, dest: str | None = None, options: Options) -> int:
    """Show a batch's progress until every item has ended, bring outputs home as items end; 0 if all succeeded, else 1.

    ``dest``: absolute directory for the outputs; None to take it from the record. Ctrl-C as in ``attach_single``.
    """
    from rgrid.follow.batch import watch

    return watch(client, batch, dest=dest or options.dest, options=options)
