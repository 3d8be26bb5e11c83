"""GPUs are found as NVML tells of them, and what it cannot tell does no harm."""

from __future__ import annotations

import logging

import pynvml
import pytest
from support.nvml import Recorded, recorded

from rgrid_runner.nvml import Look, chosen, connect

A100, T4, GB10 = 0, 2, 4


def test_a_gpu_is_known_by_all_that_decides_what_fits() -> None:
    """Index, model, memory, UUID and the driver's versions are those of NVML."""
    assert recorded("one").found() == [
        {
            "index": 0,
            "model": "NVIDIA H200",
            "memory": 150754820096,
            "uuid": "GPU-5d9f1c3e-62f0-1b0c-9a1e-2f7a0d8c4b11",
            "driver": "550.90.07",
            "cuda": "12.4",
        }
    ]


def test_what_cannot_be_used_whole_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """A GPU split by MIG and one that is lost are not offered; the others keep their numbers."""
    found = recorded("mixed").found()
    assert [gpu["index"] for gpu in found] == [A100, T4, GB10]
    assert [gpu["memory"] for gpu in found] == [42949672960, 16106127360, 0]
    assert [record.getMessage()[:5] for record in caplog.records] == ["GPU 1", "GPU 3"]


def test_a_host_without_gpus_has_none() -> None:
    """A driver without a device is no fault."""
    assert recorded("none").found() == []


def test_a_driver_that_fails_is_a_warning_and_no_gpu(caplog: pytest.LogCaptureFixture) -> None:
    """A runner starts with a broken driver, and its log says why it has no GPUs."""
    assert recorded("broken").found() == []
    assert caplog.records[0].levelno == logging.WARNING
    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        recorded("no_driver")


@pytest.mark.parametrize(("module", "words"), [("no_driver", "Driver Not Loaded"), ("one", "")])
def test_connecting_tells_a_broken_driver_from_none(
    module: str, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A library whose driver does not answer is a warning; one that answers is used."""
    monkeypatch.setattr("rgrid_runner.nvml.ctypes.CDLL", lambda name: None)
    monkeypatch.setattr("rgrid_runner.nvml.importlib.import_module", lambda name: Recorded(module))
    assert (connect() is None) is bool(words)
    assert [words in record.getMessage() for record in caplog.records] == [True] * bool(words)


def test_a_host_without_a_driver_is_quiet_and_imports_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the library is not installed nothing is said, and ``pynvml`` is not even looked for."""

    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("rgrid_runner.nvml.ctypes.CDLL", absent)
    monkeypatch.setattr("rgrid_runner.nvml.importlib.import_module", lambda name: pytest.fail("imported"))
    assert connect() is None
    assert not caplog.records


def test_looks_say_what_is_known() -> None:
    """Utilisation and memory in use; where a GPU cannot tell one of them, the other is still told."""
    host = recorded("mixed")
    assert host.look("GPU-0a000000-0000-4000-8000-00000000000a") == Look(80, 0)
    assert host.look("GPU-74000000-0000-4000-8000-000000000002") == Look(0, 465764352)
    assert host.look("GPU-b1000000-0000-4000-8000-000000000004") == Look(7, 0)
    for gone in ("GPU-74000000-0000-4000-8000-000000000003", "GPU-unknown"):
        assert host.look(gone) is None


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, [A100, T4, GB10]),
        ("", []),
        ("-1", []),
        ("4,0", [A100, GB10]),
        ("0,0", [A100]),
        ("GPU-74", [T4]),
        ("2,7,0", [T4]),
        (" 2 , 0 ", [A100, T4]),
    ],
)
def test_a_runner_offers_what_it_may_see(value: str | None, seen: list[int]) -> None:
    """CUDA_VISIBLE_DEVICES of the runner limits it as it would limit a CUDA program."""
    env = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert [gpu["index"] for gpu in chosen(recorded("mixed").found(), env)] == seen
