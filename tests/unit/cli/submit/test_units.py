"""Sizes, durations, resources and variables as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rgrid.submit import env_values, units
from rgrid_shared.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("2GiB", 2 << 30), ("2G", 2 << 30), ("512MiB", 512 << 20), ("1.5 kb", 1500), ("4096", 4096)],
)
def test_sizes(text: str, size: int) -> None:
    """GB is decimal, GiB and G are binary."""
    assert units.parse_size(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "GB", "2XB", "-1GB", "0", "1e9", "nan", "9999999PB"])
def test_bad_sizes(text: str) -> None:
    """What is no size is refused with the option's name and an example."""
    with pytest.raises(UsageError, match="--memory") as caught:
        units.parse_size(text, "--memory")
    assert "16GB" in caught.value.hint


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172800), ("1.5h", 5400), ("7", 7)])
def test_durations(text: str, seconds: float) -> None:
    """Durations add up; a bare number is seconds."""
    assert units.parse_duration(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "h", "1x", "0", "-5s", "inf", "nan", "900d"])
def test_bad_durations(text: str) -> None:
    """What is no duration, or no sensible one, is refused."""
    with pytest.raises(UsageError, match="--timeout"):
        units.parse_duration(text, "--timeout")


@pytest.mark.parametrize(("text", "millis"), [("2", 2000), ("0.5", 500), ("500m", 500), (".25", 250)])
def test_cpu(text: str, millis: int) -> None:
    """Cores come in fractions."""
    assert units.parse_cpu(text) == millis


@pytest.mark.parametrize("text", ["0", "two", "-1", "", "99999999"])
def test_bad_cpu(text: str) -> None:
    """What is no number of cores is refused."""
    with pytest.raises(UsageError, match="--cpu"):
        units.parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "gpu"), [("A100:2", ("A100", 2)), ("A100", ("A100", 1)), ("2", ("", 2)), ("any:4", ("", 4))]
)
def test_gpu(text: str, gpu: tuple[str, int]) -> None:
    """A GPU is a model, a count, or both."""
    assert units.parse_gpu(text) == gpu


@pytest.mark.parametrize("text", ["", ":2", "A100:", "A100:x", "A100:0", "0"])
def test_bad_gpu(text: str) -> None:
    """What is no GPU is refused."""
    with pytest.raises(UsageError, match="--gpu"):
        units.parse_gpu(text)


@pytest.mark.parametrize("text", ["team", "=x", ""])
def test_bad_pairs(text: str) -> None:
    """What is not KEY=VALUE is refused."""
    with pytest.raises(UsageError, match="KEY=VALUE"):
        units.parse_pairs([text], "--metadata")


def test_pairs() -> None:
    """A value may hold ``=`` and may be empty."""
    assert units.parse_pairs(["a=b=c", "d="], "--metadata") == {"a": "b=c", "d": ""}


def test_variables_are_given_or_inherited() -> None:
    """``-e KEY`` takes the caller's value, ``-e KEY=VALUE`` its own."""
    assert env_values.collect(["A", "B=x=y", "C="], [], {"A": "1"}) == {"A": "1", "B": "x=y", "C": ""}


@pytest.mark.parametrize("text", ["1A=x", "=x", "A-B=1", "A B", "", "A"])
def test_bad_variables_are_refused(text: str) -> None:
    """A malformed or unset variable is an error with the way to write it."""
    with pytest.raises(UsageError) as caught:
        env_values.collect([text], [], {})
    assert caught.value.hint


def test_env_files(tmp_path: Path) -> None:
    """An env file has comments, quotes, ``export`` and inherited names; ``-e`` goes over it."""
    file = tmp_path / "vars"
    file.write_text("# c\nA=1 # one\nexport B='x # y'\nC=\"l\\nm\"\nD\n\nE=a#b\n")
    found = env_values.collect(["A=2"], [str(file)], {"D": "4"})
    assert found == {"A": "2", "B": "x # y", "C": "l\nm", "D": "4", "E": "a#b"}


@pytest.mark.parametrize(
    ("content", "problem"), [("A=1\nB C=2\n", "line 2"), ("A='x\n", "line 1"), ("NOPE\n", "line 1")]
)
def test_a_bad_line_of_an_env_file_is_named(tmp_path: Path, content: str, problem: str) -> None:
    """The line that is wrong is named."""
    file = tmp_path / "vars"
    file.write_text(content)
    with pytest.raises(UsageError, match=problem):
        env_values.collect([], [str(file)], {})


def test_a_missing_env_file_is_named(tmp_path: Path) -> None:
    """An env file that is not there is named."""
    with pytest.raises(UsageError, match="nope"):
        env_values.collect([], [str(tmp_path / "nope")], {})
