"""What was installed for an execution is known to the pin, and to its own project alone."""

from __future__ import annotations

from typing import Any

import pytest
from support.control_plane import ControlPlane, spec, submission

KEY = "ab" * 32
LOCK = ["numpy==2.1.0 --hash=sha256:aa", "six==1.17.0 --hash=sha256:bb"]
NEEDS = {"lines": ["numpy", "six"], "source": "t", "requires_python": "", "exact": False}


@pytest.fixture
async def execution(plane: ControlPlane) -> str:
    """An execution that a runner gave a layer."""
    body = {
        "runner_id": None, "name": "r", "backend": "process", "version": "0", "slots": 1, "labels": {},
        "runtimes": {"python3.11": "3.11.7"},
        "resources": {"cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []},
    }  # fmt: skip
    runner = (await plane.runner.post("/v1/runners", json=body)).json()["runner_id"]
    wanted = submission(spec=spec(requirements=NEEDS))
    batch = (await plane.client.post("/v1/batches", json=wanted)).raise_for_status().json()
    free = {"slots": 1, "cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []}
    poll = {"attempts": [], "claim": {"request_id": "request-1", "free": free}, "wait_s": 0, "draining": False}
    reply = (await plane.runner.post(f"/v1/runners/{runner}/poll", json=poll)).raise_for_status().json()
    assert len(reply["claims"]) == 1
    query = {"key": KEY, "project_id": plane.project_id, "lock": LOCK, "interpreter": "cpython-3.11.7"}
    (await plane.runner.post(f"/v1/runners/{runner}/layers/find", json=query)).raise_for_status()
    return str(batch["first_execution_id"])


async def used(plane: ControlPlane) -> None:
    """The attempt says which layer it had."""
    async with plane.services.database.transaction() as tx:
        await tx.conn.exec_driver_sql(f"UPDATE attempts SET layer = '{KEY}'")


async def test_an_execution_shows_its_packages(plane: ControlPlane, execution: str) -> None:
    """Pins without hashes in the view; with hashes as a lock that another run can be given."""
    assert (await plane.client.get(f"/v1/executions/{execution}")).json()["packages"] == []
    await used(plane)
    assert (await plane.client.get(f"/v1/executions/{execution}")).json()["packages"] == ["numpy==2.1.0", "six==1.17.0"]
    lock: dict[str, Any] = (await plane.client.get(f"/v1/executions/{execution}/lock")).json()
    assert lock == {"execution_id": execution, "runtime": "python3.11", "lines": LOCK, "options": []}


async def test_a_lock_that_is_not_known_is_not_made_up(plane: ControlPlane, execution: str) -> None:
    """Before a layer was given there is nothing to be exact about; a script without requirements needs none."""
    answer = await plane.client.get(f"/v1/executions/{execution}/lock")
    assert (answer.status_code, "never got that far" in answer.json()["detail"]) == (409, True)
    plain = (await plane.client.post("/v1/batches", json=submission())).raise_for_status().json()
    lock = (await plane.client.get(f"/v1/executions/{plain['first_execution_id']}/lock")).raise_for_status().json()
    assert lock["lines"] == []


async def test_another_projects_packages_are_unknown(plane: ControlPlane, execution: str) -> None:
    """As is the execution itself."""
    await used(plane)
    assert (await plane.other.get(f"/v1/executions/{execution}/lock")).status_code == 404
