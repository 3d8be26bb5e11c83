"""From a command line to a batch on the grid: parsing, gathering, hashing, uploading, submitting.

Nothing in here prints, but for what goes through the ``say`` that is handed in. Imports are made when they are used:
``rgrid run --help`` needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rgrid.client import Client
    from rgrid.submit.plan import Prepared
    from rgrid.submit.progress import Progress
    from rgrid.submit.request import RunRequest
    from rgrid.submit.submission import Submitted


def submit_run(
    client: Client,
    request: RunRequest,
    *,
    say: Callable[[str], None] = lambda _text: None,
    progress: Callable[[str, int], Progress] | None = None,
    prepared: Prepared | None = None,
) -> Submitted:
    """Look at everything, then send it: the batch as the grid has taken it, and the plan.

    Raises:
        UsageError: the request is wrong; nothing has been sent.
        RgridError: the grid refused or cannot be reached; nothing runs.
    """
    from rgrid.config import home
    from rgrid.submit.plan import make_plan
    from rgrid.submit.submission import send

    plan = make_plan(request, home(), prepared)
    for note in plan.notes:
        say(note)
    return send(client, plan, say=say, progress=progress)
