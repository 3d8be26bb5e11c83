"""Run scripts on the grid as if they ran here: ``import rgrid``.

::

    run = rgrid.run("train.py", "--epochs", "5", gpu="A100")
    result = run.wait()             # result.status, result.exit_code
    run.download()                  # the files that it made

    batch = rgrid.batch("convert.py", files="in/*.png", parallel=20)
    batch.wait().counts

Everything is imported when it is first used.
"""

from __future__ import annotations

from rgrid_shared import __version__

TYPE_CHECKING = False  # as typing's own, whose import would be a quarter of what `rgrid --version` takes
if TYPE_CHECKING:
    from rgrid.sdk import Batch, BatchResult, Execution, LogLine, Result, Run, batch, get, run
    from rgrid_shared.errors import RgridError
    from rgrid_shared.states import Status

__all__ = [
    "Batch",
    "BatchResult",
    "Execution",
    "LogLine",
    "Result",
    "RgridError",
    "Run",
    "Status",
    "__version__",
    "batch",
    "get",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'rgrid' has no attribute {name!r}")
    from rgrid import sdk
    from rgrid_shared import errors, states

    found = {"RgridError": errors.RgridError, "Status": states.Status}.get(name) or getattr(sdk, name)
    globals()[name] = found
    return found
