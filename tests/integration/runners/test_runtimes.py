"""Runtimes and images over HTTP, against real PostgreSQL."""

from __future__ import annotations

from support.control_plane import ControlPlane, spec, submission

REGISTRATION = {
    "runner_id": None,
    "name": "one",
    "backend": "docker",
    "version": "0.1.0",
    "slots": 4,
    "labels": {},
    "runtimes": {"python3.11": "3.11.7"},
    "resources": {"cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []},
}


async def register(plane: ControlPlane, **changes: object) -> str:
    reply = await plane.runner.post("/v1/runners", json={**REGISTRATION, **changes})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["runner_id"])


async def claimed(plane: ControlPlane, runner: str) -> int:
    free = {"slots": 4, "cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []}
    claim = {"request_id": f"request-{runner}", "free": free}
    body = {"attempts": [], "claim": claim, "wait_s": 0, "draining": False}
    reply = await plane.runner.post(f"/v1/runners/{runner}/poll", json=body)
    return len(reply.json()["claims"])


async def test_the_list_is_what_runners_registered(plane: ControlPlane) -> None:
    """With images and the patterns of images that may be named; a runner that leaves a runtime out takes it away."""
    images = {"ffmpeg": "rgrid/ffmpeg"}
    offer = {"runtimes": {"python3.11": "3.11.2", "ffmpeg": "python 3.11.2"}, "images": images}
    runner = await register(plane, **offer, allowed_images=["reg.example/lab/*"])
    await register(plane)
    page = (await plane.client.get("/v1/runtimes")).json()
    assert [(each["name"], each["runners"], each["versions"]) for each in page["runtimes"]] == [
        ("ffmpeg", 1, ["python 3.11.2"]),
        ("python3.11", 2, ["3.11.7", "3.11.2"]),
    ]
    assert page["allowed_images"] == ["reg.example/lab/*"]
    await register(plane, runner_id=runner)
    page = (await plane.client.get("/v1/runtimes")).json()
    assert [each["name"] for each in page["runtimes"]] == ["python3.11"]
    assert page["allowed_images"] == []


async def test_the_list_needs_a_key(plane: ControlPlane) -> None:
    """As everything of a grid does."""
    assert (await plane.anonymous.get("/v1/runtimes")).status_code == 401


async def test_an_image_goes_to_a_runner_that_allows_it(plane: ControlPlane) -> None:
    """Other runners never claim it, idle as they may be."""
    plain = await register(plane)
    lab = await register(plane, allowed_images=["reg.example/lab/*"])
    body = submission(spec=spec(runtime="reg.example/lab/tools:3"))
    reply = await plane.client.post("/v1/batches", json=body)
    assert reply.status_code == 201, reply.text
    assert reply.json()["hold"] == ""
    assert await claimed(plane, plain) == 0
    assert await claimed(plane, lab) == 1


async def test_an_image_that_no_runner_allows_is_refused(plane: ControlPlane) -> None:
    """At once, and what is no image's name is too."""
    await register(plane, allowed_images=["reg.example/lab/*"])
    for runtime, words in (("reg.example/other/x", "may run the image"), ("reg.example/Lab/x", "no runtime name")):
        reply = await plane.client.post("/v1/batches", json=submission(spec=spec(runtime=runtime)))
        assert reply.status_code == 422
        assert words in reply.json()["detail"]
