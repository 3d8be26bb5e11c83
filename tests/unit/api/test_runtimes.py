"""What runners offer together, and which of them may run a named image."""

from __future__ import annotations

from rgrid_api.batches.shapes import Host, hold_sentence, misfit
from rgrid_api.runners.runtimes import Offer, together
from rgrid_shared.specs import NO_RESOURCES, Resources


def host(*images: str) -> Host:
    return Host({"python3.11": "3.11.7"}, {}, {"cpu_millis": 1, "memory": 1, "disk": 1, "gpus": []}, images)


def test_runtimes_are_listed_once_with_all_versions_and_images() -> None:
    """By name as people count, newest version first; those of runners that are away count no runner."""
    page = together(
        [
            Offer(True, {"python3.9": "3.9.2", "python3.10": "3.10.9"}, {}, []),
            Offer(True, {"python3.10": "3.10.12", "ffmpeg": ""}, {"ffmpeg": "rgrid/ffmpeg"}, ["lab/*"]),
            Offer(False, {"node20": "20.1.0"}, {}, ["lab/*", "a/b"]),
        ]
    )
    assert [(each["name"], each["language"], each["versions"], each["runners"]) for each in page["runtimes"]] == [
        ("ffmpeg", "", [], 1),
        ("node20", "node", ["20.1.0"], 0),
        ("python3.9", "python", ["3.9.2"], 1),
        ("python3.10", "python", ["3.10.12", "3.10.9"], 2),
    ]
    assert page["runtimes"][0]["images"] == ["rgrid/ffmpeg"]
    assert page["allowed_images"] == ["a/b", "lab/*"]


def test_an_image_fits_only_a_host_that_allows_it() -> None:
    """By the host's own patterns; a host without any runs no image that is named."""
    wanted: Resources = {**NO_RESOURCES, "labels": {}}
    assert not misfit("reg.example/lab/x:1", wanted, host("reg.example/lab/*"))
    assert misfit("reg.example/lab/x:1", wanted, host("reg.example/other/*"))
    assert misfit("reg.example/lab/x:1", wanted, host())
    assert misfit("ffmpeg", wanted, host("*"))
    assert not hold_sentence("reg.example/lab/x:1", wanted, [host(), host("reg.example/lab/*")])
    assert hold_sentence("lab/x", wanted, [host()]) == "No runner of this grid may run the image lab/x."
