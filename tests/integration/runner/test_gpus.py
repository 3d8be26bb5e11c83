"""GPUs from the offer to the script, on the real API and runner; only the driver is a recording."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import support
from support.waiting import until

from rgrid_shared.specs import NO_RESOURCES
from rgrid_shared.states import FailureClass, Status

TESTS = str(Path(support.__file__).parent.parent)
A100 = "GPU-0a000000-0000-4000-8000-00000000000a"
T4 = "GPU-74000000-0000-4000-8000-000000000002"
ALONE = """
import os, pathlib, sys, time
mine = pathlib.Path(sys.argv[1], os.environ["CUDA_VISIBLE_DEVICES"])
mine.touch(exist_ok=False)  # fails if somebody else is on it
print(mine.name)
while not pathlib.Path(sys.argv[1], "go").exists():
    time.sleep(0.02)
mine.unlink()
"""


def needs(**changes: Any) -> dict[str, Any]:
    return {**NO_RESOURCES, "labels": {}, **changes}


@pytest.fixture
def gpu_runner(site: Any) -> Callable[..., Any]:
    """Start a runner on a host with one A100, one T4 and one GPU without memory of its own."""

    def start(**env: str) -> Any:
        settings = {"NVML_RECORDING": "mixed", "PYTHONPATH": TESTS, "RGRID_RUNNER_SLOTS": "8", **env}
        return site.start_runner(program="support.nvml", **settings)

    return start


def waiting(site: Any, batch: dict[str, Any], status: Status, count: int) -> None:
    until(
        lambda: site.get(f"/v1/batches/{batch['id']}")["counts"][status] == count,
        seconds=30,
        what=f"{count} items of {batch['id']} that are {status}",
    )


def test_nobody_shares_a_gpu(site: Any, gpu_runner: Any, tmp_path: Path) -> None:
    """Executions get different GPUs that fit them, wait while there is none, and see no others."""
    gpu_runner()
    until(lambda: site.get("/v1/runners")["runners"], seconds=30, what="the runner")
    items = [{"args": [str(tmp_path)], "files": {}}] * 5
    batch = site.submit(ALONE, items=items, resources=needs(gpu_memory=1))
    waiting(site, batch, Status.RUNNING, 2)
    unasked = site.run("import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))")
    assert unasked.out == b"''\n"
    assert {each.name for each in tmp_path.iterdir()} == {A100, T4}
    (tmp_path / "go").touch()
    assert site.all_ended(batch["id"])["counts"][Status.SUCCEEDED] == 5


def test_a_shared_gpu_takes_as_many_as_it_may(site: Any, gpu_runner: Any, tmp_path: Path) -> None:
    """With two shares two executions run on one GPU, and the third waits."""
    gpu_runner(RGRID_RUNNER_GPU_SHARES="2", CUDA_VISIBLE_DEVICES="2")
    until(lambda: site.get("/v1/runners")["runners"], seconds=30, what="the runner")
    items = [{"args": [str(tmp_path)], "files": {}}] * 3
    text = ALONE.replace("exist_ok=False", "exist_ok=True").replace("mine.unlink()", "")
    batch = site.submit(text, items=items, resources=needs(gpus=1))
    waiting(site, batch, Status.RUNNING, 2)
    waiting(site, batch, Status.QUEUED, 1)
    assert {each.name for each in tmp_path.iterdir()} <= {T4}
    (tmp_path / "go").touch()
    assert site.all_ended(batch["id"])["counts"][Status.SUCCEEDED] == 3


def test_gpus_stay_with_their_scripts_over_a_restart(site: Any, gpu_runner: Any, tmp_path: Path) -> None:
    """A runner that was killed and comes back gives nobody the GPU of a script that went on; usage is reported."""
    first = gpu_runner()
    until(lambda: site.get("/v1/runners")["runners"], seconds=30, what="the runner")
    model = needs(gpu_model="A100")
    on = site.submit(ALONE, str(tmp_path), resources=model)
    until((tmp_path / A100).exists, seconds=30, what="the script")
    first.kill()
    first.wait()
    gpu_runner()
    second = site.submit(ALONE, str(tmp_path), resources=model)
    assert site.run("print(1)", resources=needs(gpu_model="T4")).out == b"1\n"
    waiting(site, second, Status.QUEUED, 1)
    (tmp_path / "go").touch()
    for batch in (on, second):
        ended = site.ended(batch["first_execution_id"])
        assert (ended.status, ended.out.decode()) == (Status.SUCCEEDED, f"{A100}\n")


def test_usage_is_measured(site: Any, gpu_runner: Any) -> None:
    """What the driver says while the script runs is on the attempt."""
    gpu_runner()
    ended = site.run("import time; time.sleep(3)", resources=needs(gpu_model="A100"))
    usage = ended.view["attempts"][0]["usage"]
    assert (ended.view["failure"], usage["gpu_percent"], usage["gpu_memory"]) == (None, 80, 0)
    ended = site.run("import time; time.sleep(3)", resources=needs(gpu_model="T4"), timeout_s=2.5)
    assert ended.view["failure"] == FailureClass.TIMEOUT
    assert ended.view["attempts"][0]["usage"]["gpu_memory"] == 465764352
