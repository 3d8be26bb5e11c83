"""Real project trees for tests of what travels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rgrid.submit.plan import Plan, make_plan, prepare
from rgrid.submit.request import RunRequest

BARE = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root")}


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below ``root``."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def plan_of(cwd: Path, script: str, *args: str, environ: Mapping[str, str] | None = None, **more: object) -> Plan:
    """The plan of a run in ``cwd``; the runtime is given unless the test asks for the interpreter."""
    more.setdefault("runtime", "python3.11")
    request = RunRequest(script=script, args=args, cwd=str(cwd), **more)  # type: ignore[arg-type]
    ready = prepare(script, module=request.module, cwd=str(cwd), environ=environ if environ is not None else BARE)
    return make_plan(request, cwd.parent / "home", ready)


def shipped(plan: Plan) -> set[str]:
    """Paths of the spec's files."""
    return {file["path"] for file in plan.spec["files"]}
