"""What ``--dry-run`` shows: everything that would travel, and what the script would run with."""

from __future__ import annotations

import os
from typing import Any

from rgrid.submit.plan import Plan
from rgrid.submit.units import show_count
from rgrid.times import duration_text, size_text

_MAX_ITEMS = 10


def document(plan: Plan) -> dict[str, Any]:
    """The plan as JSON. Environment values are not in it."""
    request = plan.request
    return {
        "spec": plan.spec,
        "items": plan.items,
        "total": len(plan.items),
        "files": [
            {"path": path, "size": file.size, "sha256": file.sha256, "reason": plan.reasons[path]}
            for path, file in sorted(plan.files.items())
        ],
        "file_count": len(plan.files),
        "bytes": sum(file.size for file in plan.files.values()),
        "name": request.name,
        "metadata": dict(request.metadata),
        "priority": request.priority,
        "parallel": request.parallel,
        "max_fails": request.max_fails,
        "canary": request.canary,
        "notes": [*plan.notes, *plan.details],
    }


def lines(plan: Plan) -> list[str]:
    """The plan for people, line by line."""
    cwd = os.path.join(plan.spec["root"], plan.spec["cwd"]).rstrip("/") or "/"
    out = ["Files"]
    width = max((len(size_text(file.size)) for file in plan.files.values()), default=0)
    for path, file in sorted(plan.files.items()):
        shown = os.path.relpath(path, cwd) if path.startswith(plan.spec["root"]) else path
        out.append(f"  {size_text(file.size):>{width}}  {shown}  ({plan.reasons[path]})")
    total = sum(file.size for file in plan.files.values())
    out.append(f"  {show_count(len(plan.files), 'file')}, {size_text(total)}")
    out += ["Items", *_items(plan)] if not plan.single else []
    out += ["Runs with", *(f"  {line}" for line in _settings(plan))]
    if plan.notes or plan.details:
        out += ["Notes", *(f"  {note}" for note in (*plan.notes, *plan.details))]
    out.append("Nothing was submitted.")
    return out


def _items(plan: Plan) -> list[str]:
    out = []
    for item in plan.items[:_MAX_ITEMS]:
        args = [arg if isinstance(arg, str) else f"{arg['prefix']}{arg['original']}" for arg in item["args"]]
        out.append(f"  {item['name']} → outputs/{item['output_name']}/  {' '.join(args)}")
    if len(plan.items) > _MAX_ITEMS:
        out.append(f"  … {show_count(len(plan.items), 'item')} in all")
    return out


def _settings(plan: Plan) -> list[str]:
    spec = plan.spec
    needs = spec["resources"]
    out = [f"runtime       {spec['runtime']}"]
    requirements = spec["requirements"]
    if requirements is None:
        out.append("layer         none: no requirements")
    else:
        out.append(f"layer         from {requirements['source']}: {', '.join(requirements['lines']) or 'no packages'}")
    if needs["cpu_millis"]:
        out.append(f"cpu           {needs['cpu_millis'] / 1000:g}")
    if needs["memory"]:
        out.append(f"memory        {size_text(needs['memory'])}")
    if needs["disk"]:
        out.append(f"disk          {size_text(needs['disk'])}")
    if needs["gpus"]:
        memory = f", {size_text(needs['gpu_memory'])} each" if needs["gpu_memory"] else ""
        out.append(f"gpu           {needs['gpus']} × {needs['gpu_model'] or 'any'}{memory}")
    if needs["labels"]:
        out.append(f"labels        {', '.join(f'{key}={value}' for key, value in needs['labels'].items())}")
    if spec["timeout_s"]:
        out.append(f"timeout       {duration_text(spec['timeout_s'])}")
    if spec["retry"]["retries"]:
        out.append(f"retries       {spec['retry']['retries']}")
    if not spec["network"]:
        out.append("network       no")
    if spec.get("isolate"):
        out.append("isolated      yes, a fresh container for every item")
    if spec["env_names"]:
        out.append(f"environment   {', '.join(spec['env_names'])}")
    if plan.request.parallel:
        out.append(f"parallel      {plan.request.parallel}")
    return out
