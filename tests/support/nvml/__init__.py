"""NVML as recordings: what its calls return, in the shapes of ``pynvml``, for hosts that tests do not have.

A recording names each call and what it returned; an error by its class. Where a list stands for what is asked again
and again (memory, utilisation), the answers come in turn and the last one stays.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

from rgrid_runner.nvml import Nvml

_HERE = Path(__file__).parent


class Recorded:
    """Answers like the module ``pynvml``, errors and constants included, from ``<name>.json``."""

    def __init__(self, name: str) -> None:
        self._calls: dict[str, Any] = json.loads((_HERE / f"{name}.json").read_text())
        self._devices: list[dict[str, Any]] = self._calls["devices"]
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        """Errors and constants are the real ones."""
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:  # noqa: N802
        """As recorded, which is nothing unless it failed."""
        _answer(self._calls, "nvmlInit", None)

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        """As recorded."""
        return str(_answer(self._calls, "nvmlSystemGetDriverVersion"))

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        """As recorded."""
        return int(_answer(self._calls, "nvmlSystemGetCudaDriverVersion_v2"))

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """How many devices the recording holds."""
        return len(self._devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        """A handle is the device's part of the recording."""
        return self._devices[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> dict[str, Any]:  # noqa: N802
        """Raises NVMLError_NotFound."""
        for device in self._devices:
            if device["nvmlDeviceGetUUID"] == uuid:
                return device
        raise pynvml.NVMLError_NotFound

    def nvmlDeviceGetName(self, device: dict[str, Any]) -> str:  # noqa: N802
        """As recorded."""
        return str(_answer(device, "nvmlDeviceGetName"))

    def nvmlDeviceGetUUID(self, device: dict[str, Any]) -> str:  # noqa: N802
        """As recorded."""
        return str(_answer(device, "nvmlDeviceGetUUID"))

    def nvmlDeviceGetMigMode(self, device: dict[str, Any]) -> Any:  # noqa: N802
        """As recorded."""
        return _answer(device, "nvmlDeviceGetMigMode")

    def nvmlDeviceGetMemoryInfo(self, device: dict[str, Any], version: int | None = None) -> Any:  # noqa: N802
        """The next recorded answer to the question's form."""
        return _next(device, "nvmlDeviceGetMemoryInfo_v2" if version else "nvmlDeviceGetMemoryInfo")

    def nvmlDeviceGetUtilizationRates(self, device: dict[str, Any]) -> Any:  # noqa: N802
        """The next recorded answer."""
        self.asked += 1
        return _next(device, "nvmlDeviceGetUtilizationRates")


def recorded(name: str) -> Nvml:
    """The library of the host of this recording."""
    return Nvml(Recorded(name))


def _answer(calls: dict[str, Any], name: str, *default: Any) -> Any:
    answer = calls.get(name, *default) if default else calls[name]
    if isinstance(answer, str) and answer.startswith("NVMLError_"):
        raise getattr(pynvml, answer)
    return answer


def _next(calls: dict[str, Any], name: str) -> SimpleNamespace:
    answers = _answer(calls, name)
    return SimpleNamespace(**(answers.pop(0) if len(answers) > 1 else answers[0]))
