"""The Docker engine of this machine, and the images that tests run scripts in (``make runtimes`` builds them).

A test that asks for what is not there is left out with the reason, which fails it where ``RGRID_CI`` is set.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import cache

import docker
import pytest
from docker.errors import DockerException, ImageNotFound

IMAGE = "rgrid/python:3.11"
"""Python 3.11 as a runtime has it."""
SHELL_IMAGE = "rgrid/bash"
"""``bash`` and ``sh``, no Python."""
BARE_IMAGE = "rgrid/test-bare"
"""Neither a shell nor an interpreter: one static program, ``/bin/applets`` (a busybox that is not called so)."""
_SOCKET = "unix:///var/run/docker.sock"


@cache
def missing_engine() -> str:
    """Why there is no Docker engine that containers of a runner can be tested on; empty if there is one."""
    if os.geteuid() != 0:
        return "the Docker backend needs root"
    place = os.environ.get("DOCKER_HOST", _SOCKET)
    try:
        # Not by the SDK: it leaks a socket that cannot connect, which the tests would take for an error of their own.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(place.removeprefix("unix://"))
        with closing(docker.from_env(timeout=10)) as client:
            client.ping()
    except (OSError, DockerException) as error:
        return f"there is no Docker engine at {place}: {error}"
    return ""


@cache
def _image_id(name: str) -> str:
    with closing(docker.from_env()) as client:
        try:
            return str(client.images.get(name).id)
        except ImageNotFound:
            return ""


def require_image(name: str) -> str:
    """The id (``sha256:…``) of an image; without it, or an engine, the test is left out."""
    if reason := missing_engine():
        pytest.skip(reason)
    image = _image_id(name)
    if not image:
        pytest.skip(f"there is no image {name}: make runtimes")
    return image


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """A client of the engine; without an engine or ``IMAGE`` the test is left out."""
    require_image(IMAGE)
    with closing(docker.from_env()) as client:
        yield client
