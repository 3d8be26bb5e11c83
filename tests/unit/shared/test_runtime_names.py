"""Names of runtimes and of images."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid_shared.errors import UsageError
from rgrid_shared.runtime_names import MAX_LENGTH, allowed, is_image, is_valid, language_of, normal

DIGEST = "sha256:" + "a" * 64
PARTS = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?", fullmatch=True)
HOSTS = st.sampled_from(["", "images.example/", "localhost:5000/", "reg.example/"])
TAGS = st.sampled_from(["", ":1", ":Latest_2", f"@{DIGEST}", f":1@{DIGEST}"])
IMAGES = st.builds(lambda host, parts, tag: host + "/".join(parts) + tag, HOSTS, st.lists(PARTS, min_size=1), TAGS)


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("python:3.12", "docker.io/library/python:3.12"),
        ("lab/tools", "docker.io/lab/tools:latest"),
        ("a/b/c", "docker.io/a/b/c:latest"),
        ("reg.example/lab/tools:3", "reg.example/lab/tools:3"),
        ("localhost/tools", "localhost/tools:latest"),
        ("host:5000/tools", "host:5000/tools:latest"),
        (f"lab/tools@{DIGEST}", f"docker.io/lab/tools@{DIGEST}"),
    ],
)
def test_what_an_image_is_called_in_full(typed: str, full: str) -> None:
    """Registry, namespace and tag are what Docker takes them to be."""
    assert normal(typed) == full
    assert is_image(typed)
    assert is_valid(typed)


@pytest.mark.parametrize("typed", ["lab/", "/lab", "lab/X", "lab/tools:", "a b/c", "lab/tools@sha256:12", "x/" * 200])
def test_what_is_no_image_is_refused(typed: str) -> None:
    """With a hint that shows how one is written."""
    assert not is_valid(typed)
    assert not allowed(typed, ["*"])
    with pytest.raises(UsageError) as caught:
        normal(typed)
    assert caught.value.hint


@given(IMAGES.filter(lambda name: len(name) <= MAX_LENGTH - 30))
def test_a_full_name_is_its_own_and_allowed_by_itself(name: str) -> None:
    """Spelling out twice changes nothing, and a pattern without a wildcard fits exactly what it names."""
    assert normal(normal(name)) == normal(name)
    assert allowed(name, [name])
    assert allowed(name, [normal(name)])
    assert allowed(name, ["*"])
    assert not allowed(name, [])


@pytest.mark.parametrize(
    ("image", "pattern", "fits"),
    [
        ("reg.example/lab/tools:3", "reg.example/lab/*", True),
        ("reg.example/lab/deep/tools", "reg.example/lab/*", True),
        ("reg.example/lab2/tools", "reg.example/lab/*", False),
        ("evil.example/lab/tools", "lab/*", False),
        ("lab/tools", "docker.io/lab/*", True),
        ("docker.io/lab/tools", "lab/*", True),
        ("lab/tools:2", "lab/tools", True),
        (f"lab/tools@{DIGEST}", "lab/tools", True),
        ("lab/tools2", "lab/tools", False),
        ("lab/tools:21", "lab/tools:2", False),
        ("lab/tools:2.1", "lab/tools:2.*", True),
        ("python:3.12", "python:*", True),
        ("evil/python:3.12", "python:*", False),
    ],
)
def test_patterns_fit_the_whole_name(image: str, pattern: str, fits: bool) -> None:
    """A pattern never reaches into another registry or another namespace than it names."""
    assert allowed(image, [pattern]) is fits


@pytest.mark.parametrize(
    ("runtime", "language"),
    [
        ("python3.12", "python"),
        ("node20", "node"),
        ("bash", "bash"),
        ("python-datascience", None),
        ("ffmpeg", None),
        ("reg.example/lab/python3.12", None),
    ],
)
def test_the_language_of_a_runtime(runtime: str, language: str | None) -> None:
    """Plain interpreters are for one language; what is more is for scripts of any."""
    assert language_of(runtime) == language
    assert is_valid(runtime)
