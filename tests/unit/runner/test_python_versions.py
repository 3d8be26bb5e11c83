"""``requires-python``."""

from __future__ import annotations

import pytest

from rgrid_runner.python_versions import satisfies


@pytest.mark.parametrize(
    ("version", "specifier", "fits"),
    [
        ("3.11.7", "", True),
        ("3.11.7", ">=3.10", True),
        ("3.11.7", ">=3.10,<3.12", True),
        ("3.12.0", ">=3.10, <3.12", False),
        ("3.11.7", "==3.11.*", True),
        ("3.11.7", "==3.11", False),
        ("3.11.0", "==3.11", True),
        ("3.11.7", "!=3.11.*", False),
        ("3.11.7", "~=3.10", True),
        ("3.11.7", "~=3.11.5", True),
        ("3.12.1", "~=3.11.5", False),
        ("4.0.0", "~=3.10", False),
        ("3.11.7", ">3.11", True),
        ("3.11.7", "<=3.11", False),
        ("3.13.0rc1", ">=3.13", True),
        ("3.10.13", ">=3.9.0rc1", True),
    ],
)
def test_clauses_mean_what_pep_440_says(version: str, specifier: str, fits: bool) -> None:
    """A version fits if it meets every clause."""
    assert satisfies(version, specifier) is fits


@pytest.mark.parametrize("specifier", ["three", ">=", "3.11", ">=3.10;<4"])
def test_what_cannot_be_read_is_an_error(specifier: str) -> None:
    """No specifier is guessed at."""
    with pytest.raises(ValueError, match="no version clause"):
        satisfies("3.11.7", specifier)
