"""What an execution needs from a host, its hash (the shape), and which hosts can serve it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rgrid_shared import gpus
from rgrid_shared.errors import Unsatisfiable
from rgrid_shared.layer_keys import digest
from rgrid_shared.protocol import HostResources
from rgrid_shared.runtime_names import allowed, is_image
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
    """What a runner offers. ``runtimes``: name → full version; ``images``: patterns of images that specs may name."""

    runtimes: Mapping[str, str]
    labels: Mapping[str, str]
    resources: HostResources
    images: Sequence[str] = ()

    def offers(self, runtime: str) -> bool:
        """True if scripts of this runtime can run there."""
        return runtime in self.runtimes or (is_image(runtime) and allowed(runtime, self.images))


def misfit(runtime: str, needs: Resources, host: Host) -> str:
    """Why an empty ``host`` could not run this, as the end of "no runner …"; empty if it could."""
    return next(iter(misfits(runtime, needs, host)), "")


def misfits(runtime: str, needs: Resources, host: Host) -> Iterator[str]:
    """Everything that an empty ``host`` lacks for this. A need of 0, or an empty one, is no claim."""
    if not host.offers(runtime):
        yield f"offers runtime {runtime}"
    for name, value in needs["labels"].items():
        if host.labels.get(name) != value:
            yield f"has the label {name}={value}"
    if needs["cpu_millis"] > host.resources["cpu_millis"]:
        yield f"has {needs['cpu_millis'] / 1000:g} CPUs"
    if needs["memory"] > host.resources["memory"]:
        yield f"has {_iec(needs['memory'])} of memory"
    if needs["disk"] > host.resources["disk"]:
        yield f"has {_iec(needs['disk'])} of disk"
    if gpus.wanted(needs) > sum(gpus.fits(gpu, needs) for gpu in host.resources["gpus"]):
        yield f"has {gpus.words(needs)}"


def check_satisfiable(runtime: str, needs: Resources, online: Sequence[Host], known: Sequence[Host]) -> None:
    """Refuse what none of these runners could ever run. ``known``: also those that are away for now.

    With no runner online nothing is refused: it waits for one. Raises Unsatisfiable, which names the need and the
    runner that comes nearest.
    """
    if not online or any(not misfit(runtime, needs, host) for host in (*online, *known)):
        return
    nearest = min(online, key=lambda host: len(list(misfits(runtime, needs, host))))
    raise Unsatisfiable(
        hold_sentence(runtime, needs, online),
        hint=f"The runner that comes nearest has {_offer(nearest)}: rgrid runners",
    )


def _offer(host: Host) -> str:
    """What a host has, in a line."""
    has = host.resources
    models = Counter(gpu["model"] for gpu in has["gpus"])
    parts = [
        f"{has['cpu_millis'] / 1000:g} CPUs",
        f"{_iec(has['memory'])} of memory",
        f"{_iec(has['disk'])} of disk",
        *(f"{count} × {model}" for model, count in models.items()),
        *(f"{name}={value}" for name, value in host.labels.items()),
    ]
    return ", ".join(parts)


def hold_sentence(runtime: str, needs: Resources, hosts: Sequence[Host]) -> str:
    """Why none of the runners that are online (``hosts``) can ever run this; empty if one can."""
    if not hosts:
        return "No runner is online; it starts when one connects."
    lacks = [list(misfits(runtime, needs, host)) for host in hosts]
    if [] in lacks:
        return ""
    if not any(host.offers(runtime) for host in hosts):
        if is_image(runtime):
            return f"No runner of this grid may run the image {runtime}."
        offered = sorted({name for host in hosts for name in host.runtimes})
        known = f" (they offer {', '.join(offered)})" if offered else ""
        return f"No runner of this grid offers runtime {runtime}{known}."
    if everywhere := [reason for reason in lacks[0] if all(reason in each for each in lacks)]:
        return f"No runner of this grid {'; none '.join(everywhere)}."
    lacking = list(dict.fromkeys(each[0] for each in lacks))
    return f"No runner of this grid has all that it needs: none that {' and none that '.join(lacking)} fits otherwise."


def _iec(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"
