"""Which GPUs serve a need. The API asks when it offers work, the runner when it hands GPUs out: both must agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from rgrid_shared.protocol import Gpu
from rgrid_shared.specs import Resources

_WORD: Final = re.compile(r"[a-z0-9]+")


def wanted(needs: Resources) -> int:
    """GPUs that one execution takes: naming a model or an amount of memory asks for one."""
    return needs["gpus"] or int(bool(needs["gpu_model"] or needs["gpu_memory"]))


def fits(gpu: Gpu, needs: Resources) -> bool:
    """True if ``gpu`` may serve these needs.

    A model fits if each of its words is a word of the GPU's name, in any case: ``a100`` and ``A100-40GB`` fit
    ``NVIDIA A100-SXM4-40GB``; ``A10`` does not.
    """
    return gpu["memory"] >= needs["gpu_memory"] and _words(needs["gpu_model"]) <= _words(gpu["model"])


def at_once(free: Sequence[int], each: int) -> int:
    """How many executions that take ``each`` > 0 different GPUs fit at once. ``free``: free slots of each GPU.

    ``k`` fit if and only if the GPUs give ``k * each`` slots with no GPU giving more than ``k``: then dealing them
    out in turn never gives one execution the same GPU twice.
    """
    most = sum(free) // each
    while most and sum(min(slots, most) for slots in free) < most * each:
        most -= 1
    return most


def words(needs: Resources) -> str:
    """The need as people say it: ``2 A100 GPUs with 40 GiB``; empty if no GPU is wanted."""
    count = wanted(needs)
    if not count:
        return ""
    model = f" {needs['gpu_model']}" if needs["gpu_model"] else ""
    memory = f" with {needs['gpu_memory'] / 2**30:.4g} GiB" if needs["gpu_memory"] else ""
    return f"{count}{model} GPU{'s' if count > 1 else ''}{memory}"


def _words(name: str) -> set[str]:
    return set(_WORD.findall(name.lower()))
