"""``rgrid runtimes`` against a real control plane."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.control_plane import ControlPlane
from support.sockets import serving

from rgrid import main

RUNNER = {
    "runner_id": None,
    "name": "one",
    "backend": "docker",
    "version": "0.1.0",
    "slots": 4,
    "labels": {},
    "runtimes": {"python3.11": "3.11.2", "ffmpeg": "cpython 3.11.2, bash 5.2.15"},
    "images": {"python3.11": "rgrid/python:3.11", "ffmpeg": "rgrid/ffmpeg"},
    "allowed_images": ["reg.example/lab/*"],
    "resources": {"cpu_millis": 8000, "memory": 1 << 34, "disk": 1 << 36, "gpus": []},
}


async def _typed(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    async with serving(plane.app) as address:
        monkeypatch.setenv("RGRID_SERVER", f"http://{address}")
        monkeypatch.setenv("RGRID_API_KEY", plane.key)
        assert await asyncio.to_thread(main.run, ["runtimes", *argv]) == 0


async def test_the_table_names_what_can_be_typed(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for each runtime; which one Python scripts get by default; which images may be named."""
    assert (await plane.runner.post("/v1/runners", json=RUNNER)).status_code == 200
    monkeypatch.setattr("rgrid.commands.runtimes._default", lambda: "python3.11")
    await _typed(plane, monkeypatch)
    shown = capsys.readouterr()
    heads, ffmpeg, python = shown.out.splitlines()
    assert heads.split() == ["NAME", "VERSION", "SCRIPTS", "RUNNERS", "IMAGE"]
    assert ffmpeg.split() == ["ffmpeg", "cpython", "3.11.2,", "bash", "5.2.15", "any", "1", "rgrid/ffmpeg"]
    assert python.split() == ["python3.11", "3.11.2", "python", "(default", "here)", "1", "rgrid/python:3.11"]
    assert "reg.example/lab/*" in shown.err


async def test_json_is_one_document_and_quiet_is_names(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For programs."""
    await plane.runner.post("/v1/runners", json=RUNNER)
    await _typed(plane, monkeypatch, "--json")
    page = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in page["runtimes"]] == ["ffmpeg", "python3.11"]
    assert page["default"].startswith("python3.")
    await _typed(plane, monkeypatch, "-q")
    assert capsys.readouterr().out.split() == ["ffmpeg", "python3.11"]


async def test_a_grid_without_runners_says_what_to_do(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Instead of an empty table."""
    await _typed(plane, monkeypatch)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "rgrid-runner" in shown.err
