"""Scripts as ordinary processes of this host. No isolation: they are the agent's own user."""

from __future__ import annotations

import errno
import os
from typing import ClassVar

from rgrid_runner.backends.base import BackendError, StartOrder
from rgrid_runner.backends.shimmed import ShimBackend
from rgrid_shared.states import FailureClass


class ProcessBackend(ShimBackend):
    """Runs scripts as children of shims. ``directory`` belongs to one runner."""

    name: ClassVar[str] = "process"

    def _refusal(self, order: StartOrder, code: int, step: str) -> BackendError:
        """In words."""
        reason = os.strerror(code)
        if step == "exec" and code == errno.E2BIG:
            return BackendError("The arguments and environment are longer than this host allows.", FailureClass.SCRIPT)
        if step == "exec" and code == errno.ENOENT:
            return BackendError(f"There is no {order.argv[0]} on this runner.", FailureClass.INFRASTRUCTURE)
        if code == errno.ENOSPC:
            return BackendError("The runner's disk is full.", FailureClass.INFRASTRUCTURE)
        what = {"exec": order.argv[0], "cwd": str(order.cwd)}.get(step, str(order.spool))
        return BackendError(f"The script could not be started: {what}: {reason}.", FailureClass.INFRASTRUCTURE)
