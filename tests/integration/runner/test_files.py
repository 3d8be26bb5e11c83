"""Small files that are written whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rgrid_runner.files import read_json, write_json


def test_threads_that_write_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each writes in a place of its own; what stays is one of their documents, whole, and nothing beside it."""
    path = tmp_path / "memory.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_json(path, [number] * 500), range(400)))
    assert len(set(read_json(path))) == 1
    assert list(tmp_path.iterdir()) == [path]
