"""What an execution needs from a host, its hash (the shape), and which hosts can serve it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rgrid_shared.layer_keys import digest
from rgrid_shared.protocol import HostResources
from rgrid_shared.specs import Resources, Spec


def shape_of(spec: Spec) -> str:
    """The hash of everything that decides which hosts can run ``spec``: resources, labels and runtime."""
    resources = {name: value for name, value in spec["resources"].items() if value}
    return digest(
        [
            ("format", "1"),
            ("runtime", spec["runtime"]),
            ("resources", json.dumps(resources, sort_keys=True, separators=(",", ":"))),
        ]
    )


@dataclass(frozen=True, slots=True)
class Host:
    """What a runner offers. ``runtimes``: name → full version."""

    runtimes: Mapping[str, str]
    labels: Mapping[str, str]
    resources: HostResources


def misfit(runtime: str, needs: Resources, host: Host) -> str:
    """Why an empty ``host`` could not run this, as the end of "no runner …"; empty if it could.

    A need of 0, or an empty one, is no claim. A GPU model fits if the host's model name holds it in any case
    (``a100`` fits ``NVIDIA A100-SXM4-40GB``).
    """
    if runtime not in host.runtimes:
        return f"offers runtime {runtime}"
    for name, value in needs["labels"].items():
        if host.labels.get(name) != value:
            return f"has the label {name}={value}"
    if needs["cpu_millis"] > host.resources["cpu_millis"]:
        return f"has {needs['cpu_millis'] / 1000:g} CPUs"
    if needs["memory"] > host.resources["memory"]:
        return f"has {_iec(needs['memory'])} of memory"
    if needs["disk"] > host.resources["disk"]:
        return f"has {_iec(needs['disk'])} of disk"
    wanted = needs["gpus"] or int(bool(needs["gpu_model"] or needs["gpu_memory"]))
    fitting = [
        gpu
        for gpu in host.resources["gpus"]
        if needs["gpu_model"].lower() in gpu["model"].lower() and gpu["memory"] >= needs["gpu_memory"]
    ]
    if len(fitting) < wanted:
        model = f" {needs['gpu_model']}" if needs["gpu_model"] else ""
        memory = f" with {_iec(needs['gpu_memory'])}" if needs["gpu_memory"] else ""
        return f"has {wanted}{model} GPU{'s' if wanted > 1 else ''}{memory}"
    return ""


def hold_sentence(runtime: str, needs: Resources, hosts: Sequence[Host]) -> str:
    """Why none of the runners that are online (``hosts``) can ever run this; empty if one can."""
    if not hosts:
        return "No runner is online; it starts when one connects."
    reasons = [misfit(runtime, needs, host) for host in hosts]
    if "" in reasons:
        return ""
    if all(runtime not in host.runtimes for host in hosts):
        offered = sorted({name for host in hosts for name in host.runtimes})
        known = f" (they offer {', '.join(offered)})" if offered else ""
        return f"No runner of this grid offers runtime {runtime}{known}."
    lacking = list(dict.fromkeys(reasons))
    if len(lacking) == 1:
        return f"No runner of this grid {lacking[0]}."
    return f"No runner of this grid has all that it needs: none that {' and none that '.join(lacking)} fits otherwise."


def _iec(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"
