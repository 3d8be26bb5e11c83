"""NVIDIA's management library (NVML): which GPUs this host has, and how busy they are.

``pynvml`` (``nvidia-ml-py``) is imported only where the library itself is there: its import costs 0.1 s (measured), and
a host without a driver must not pay. All calls block, for seconds where the driver has to wake a GPU up.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rgrid_shared.protocol import Gpu

log: Final = logging.getLogger("rgrid.runner")
_LIBRARY: Final = "libnvidia-ml.so.1"
_DRIVER: Final = Path("/proc/driver/nvidia")


@dataclass(frozen=True, slots=True)
class Look:
    """One GPU at one moment: how busy it is in percent, and the bytes of its memory that are in use."""

    percent: int
    memory: int


class Nvml:
    """The library, initialised. ``module``: ``pynvml``, or what answers like it."""

    def __init__(self, module: Any) -> None:
        """Raises NVMLError (``module``'s) if the driver does not answer."""
        self._nvml = module
        module.nvmlInit()

    def found(self) -> list[Gpu]:
        """The host's GPUs by index. One that cannot be used whole is left out, and the log says why."""
        try:
            driver, cuda = self._nvml.nvmlSystemGetDriverVersion(), self._cuda()
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            log.warning("The NVIDIA driver does not answer, no GPU is offered: %s", error)
            return []
        return list(self._each(count, driver, cuda))

    def look(self, uuid: str) -> Look | None:
        """How busy a GPU is now; None if the driver cannot say."""
        try:
            device = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
            _, used = self._memory(device)
            return Look(self._percent(device), used)
        except self._nvml.NVMLError as error:
            log.debug("GPU %s cannot be asked: %s", uuid, error)
            return None

    def _each(self, count: int, driver: str, cuda: str) -> Iterator[Gpu]:
        for index in range(count):
            try:
                device = self._nvml.nvmlDeviceGetHandleByIndex(index)
                if self._is_split(device):
                    log.warning("GPU %d is left out: it is split by MIG (nvidia-smi -mig 0 makes it whole)", index)
                    continue
                yield {
                    "index": index,
                    "model": self._nvml.nvmlDeviceGetName(device),
                    "memory": self._memory(device)[0],
                    "uuid": self._nvml.nvmlDeviceGetUUID(device),
                    "driver": driver,
                    "cuda": cuda,
                }
            except self._nvml.NVMLError as error:
                log.warning("GPU %d is left out: %s", index, error)

    def _cuda(self) -> str:
        version = self._nvml.nvmlSystemGetCudaDriverVersion_v2()
        return f"{version // 1000}.{version % 1000 // 10}"

    def _is_split(self, device: Any) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(device)[0])
        except self._nvml.NVMLError_NotSupported:
            return False

    def _percent(self, device: Any) -> int:
        try:
            return int(self._nvml.nvmlDeviceGetUtilizationRates(device).gpu)
        except self._nvml.NVMLError_NotSupported:
            return 0

    def _memory(self, device: Any) -> tuple[int, int]:
        """Bytes in all and in use; none where a GPU has no memory of its own.

        The newer form of the question does not count as used what the driver keeps for itself.
        """
        try:
            try:
                info = self._nvml.nvmlDeviceGetMemoryInfo(device, version=self._nvml.nvmlMemory_v2)
            except self._nvml.NVMLError_FunctionNotFound:
                info = self._nvml.nvmlDeviceGetMemoryInfo(device)
        except self._nvml.NVMLError_NotSupported:
            return 0, 0
        return int(info.total), int(info.used)


def connect() -> Nvml | None:
    """The library of this host, or None: quietly if it has no driver, with a warning if its driver does not work."""
    try:
        ctypes.CDLL(_LIBRARY)
        module = importlib.import_module("pynvml")
    except (OSError, ModuleNotFoundError) as error:
        if _DRIVER.exists():
            log.warning("This host has an NVIDIA driver, but its GPUs cannot be offered: %s", error)
        return None
    try:
        return Nvml(module)
    except module.NVMLError as error:
        log.warning("The NVIDIA driver does not answer, no GPU is offered: %s (try nvidia-smi)", error)
        return None


def chosen(found: list[Gpu], env: Mapping[str, str]) -> list[Gpu]:
    """Those that the runner itself may see: ``CUDA_VISIBLE_DEVICES`` of its environment, as CUDA reads it.

    Indices or the beginnings of UUIDs, separated by commas; the first that names nothing ends the list.
    """
    names = env.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return found
    seen: list[Gpu] = []
    for name in names.split(","):
        gpu = next((gpu for gpu in found if _is(gpu, name.strip())), None)
        if gpu is None:
            break
        if gpu not in seen:
            seen.append(gpu)
    return sorted(seen, key=lambda gpu: gpu["index"])


def _is(gpu: Gpu, name: str) -> bool:
    return name == str(gpu["index"]) or (name.startswith("GPU-") and gpu.get("uuid", "").startswith(name))
