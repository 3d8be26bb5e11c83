"""Ctrl-C: the first detaches, a second within two seconds cancels."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rgrid_shared.errors import RgridError

if TYPE_CHECKING:
    from rgrid.client import Client

EXIT_CODE: Final = 130
SECOND_CHANCE_S: Final = 2.0
SAYING: Final = "Ctrl-C detaches, the run goes on; twice cancels"


def detachable(client: Client, batch_id: str, watch: Callable[[], int], say: Callable[[str], None]) -> int:
    """Run ``watch``; a Ctrl-C in it detaches. Returns its exit code, or 130."""
    try:
        return watch()
    except KeyboardInterrupt:
        return _detach(client, batch_id, say)


def _detach(client: Client, batch_id: str, say: Callable[[str], None]) -> int:
    try:
        say(f"detached, it goes on. Watch it again: rgrid attach {batch_id}")
        say(f"Stop it: rgrid cancel {batch_id} (or Ctrl-C again now)")
        time.sleep(SECOND_CHANCE_S)
    except KeyboardInterrupt:
        try:
            client.cancel(batch_id, None, "interrupted twice")
            say(f"{batch_id} is cancelled")
        except RgridError as error:
            say(f"could not be cancelled: {error.message} Try: rgrid cancel {batch_id}")
    return EXIT_CODE
