"""The files that tell later commands about the grid."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rgrid.local.processes import mark_of
from rgrid.local.record import (
    Facts,
    GridRecord,
    ensure_secrets,
    read_facts,
    read_record,
    read_secrets,
    write_facts,
    write_record,
)

RECORD = GridRecord(
    pid=os.getpid(),
    mark=mark_of(os.getpid()),
    url="http://127.0.0.1:1",
    store_url="http://127.0.0.1:2",
    started_at="2026-01-02T03:04:05Z",
    version="0.1.0",
    auto=True,
    parts={"api": 7},
)


def test_record_round_trip(tmp_path: Path) -> None:
    """What was written is read, and lives as long as its process."""
    write_record(tmp_path / "grid.json", RECORD)
    assert read_record(tmp_path / "grid.json") == RECORD
    assert RECORD.alive


def test_reused_pid() -> None:
    """A later process with the supervisor's pid does not pass for it."""
    assert not replace(RECORD, mark="another boot:1").alive
    assert not replace(RECORD, mark="").alive


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
def test_damaged_record(tmp_path: Path, text: str) -> None:
    """A record that says nothing useful means that nothing is known to run."""
    (tmp_path / "grid.json").write_text(text)
    assert read_record(tmp_path / "grid.json") is None


def test_secrets_stay(tmp_path: Path) -> None:
    """Keys are made once, kept, private, and shaped as the control plane and the store want them."""
    made = ensure_secrets(tmp_path / "secrets.json")
    assert ensure_secrets(tmp_path / "secrets.json") == made == read_secrets(tmp_path / "secrets.json")
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"rgr_[\w-]{40}", made.api_key)
    assert re.fullmatch(r"rgt_[\w-]{40}", made.runner_token)
    assert len(made.store_access_key) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"api_key": "x"}'])
def test_damaged_secrets(tmp_path: Path, text: str) -> None:
    """Damaged keys are an error: new ones would not open the data that is there."""
    (tmp_path / "secrets.json").write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        ensure_secrets(tmp_path / "secrets.json")


def test_facts(tmp_path: Path) -> None:
    """Ports and the kind of store are remembered from start to start."""
    assert read_facts(tmp_path / "facts.json") == Facts()
    write_facts(tmp_path / "facts.json", Facts("rclone", 1, 2))
    assert read_facts(tmp_path / "facts.json") == Facts("rclone", 1, 2)
