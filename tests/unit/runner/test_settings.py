"""Settings from the environment."""

from __future__ import annotations

import pytest

from rgrid_runner.settings import from_env
from rgrid_shared.errors import UsageError

LEAST = {"RGRID_API_URL": "http://127.0.0.1:1/", "RGRID_RUNNER_TOKEN": "rgt_x"}


def test_two_variables_are_enough() -> None:
    """A runner starts with an address and a token; everything else has a default."""
    settings = from_env(LEAST)
    assert settings.api_url == "http://127.0.0.1:1"
    assert settings.slots >= 4
    assert settings.labels == {}
    assert settings.drain_timeout_s is None


def test_labels_and_runtimes_are_pairs() -> None:
    """Lists of NAME=VALUE are read with or without spaces."""
    settings = from_env({**LEAST, "RGRID_RUNNER_LABELS": "zone=eu, disk=ssd", "RGRID_RUNNER_RUNTIMES": "py=/x/y"})
    assert settings.labels == {"zone": "eu", "disk": "ssd"}
    assert str(settings.runtimes["py"]) == "/x/y"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RGRID_API_URL", "somewhere"),
        ("RGRID_API_URL", ""),
        ("RGRID_RUNNER_TOKEN", ""),
        ("RGRID_RUNNER_SLOTS", "0"),
        ("RGRID_RUNNER_SLOTS", "many"),
        ("RGRID_RUNNER_LABELS", "zone"),
        ("RGRID_RUNNER_CACHE_BYTES", "-1"),
        ("RGRID_RUNNER_DRAIN_TIMEOUT", "soon"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    """A wrong setting is refused with its name and a hint."""
    with pytest.raises(UsageError, match=name) as caught:
        from_env({**LEAST, name: value})
    assert caught.value.hint
