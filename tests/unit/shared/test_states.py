"""One place spells statuses: nothing else in Python does, and SQL agrees with it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from rgrid_shared import states
from rgrid_shared.states import FINAL, SENTENCES, TRANSITIONS, FailureClass, Phase, Status, may_become

ROOT = Path(__file__).parents[3]
STATES = ROOT / "shared/rgrid_shared/states.py"
ROOMS = ("shared", "api", "cli", "runner")
SPELT = {str(status) for status in Status}


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string literal of a module but docstrings and annotations, with its line."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            skipped.update(id(part) for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def spelt_statuses(source: str) -> list[tuple[int, str]]:
    """Where a module spells a status instead of naming it."""
    return [(line, text) for line, text in literals(ast.parse(source)) if text in SPELT]


def python_files() -> list[Path]:
    """Every module of the product but the one that may."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(found) > 50
    return [path for path in found if path != STATES]


def test_no_python_literal_outside_states_spells_a_status() -> None:
    """Statuses are always ``Status.…``: a renamed one cannot live on as text somewhere."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text!r}"
        for path in python_files()
        for line, text in spelt_statuses(path.read_text("utf-8"))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('if row["status"] == "queued": pass', ["queued"]),
        ('x = {"failed": 1}', ["failed"]),
        ("states = ['running', 'succeeded']", ["running", "succeeded"]),
        ('def f():\n    """pending"""\n', []),
        ('print("it is running now")', []),
        ('print(f"running")', []),
        ("x = Status.RUNNING", []),
    ],
)
def test_the_check_sees_what_it_should(source: str, found: list[str]) -> None:
    """The check finds a status wherever it stands as a literal of its own, and leaves prose alone."""
    assert [text for _, text in spelt_statuses(source)] == found


def sql_files() -> list[Path]:
    """Every SQL file of the product."""
    found = sorted((ROOT / "api").rglob("*.sql"))
    assert found
    return found


_NAMED = re.compile(
    r"\b(?P<column>status|failure|phase)\s*"
    r"(?:(?:=|<>|!=)\s*(?P<one>'[^']*')|(?:NOT\s+)?IN\s*\((?P<list>[^)]*)\))",
    re.IGNORECASE,
)
_MEANING = {
    "status": {str(status) for status in Status},
    "failure": {str(kind) for kind in FailureClass},
    "phase": {str(phase) for phase in Phase},
}


def named_values(sql: str) -> Iterator[tuple[str, str]]:
    """(column, value) wherever a status, failure or phase is compared with or set to literals."""
    for match in _NAMED.finditer(re.sub(r"--[^\n]*", "", sql)):
        for value in re.findall(r"'([^']*)'", match["one"] or match["list"]):
            yield match["column"].lower(), value


def test_sql_names_only_members_of_the_enums() -> None:
    """Every status, failure class and phase that a ``.sql`` file names exists."""
    seen = 0
    for path in sql_files():
        for column, value in named_values(path.read_text("utf-8")):
            seen += 1
            assert value in _MEANING[column], f"{path.name}: {column} {value!r}"
    assert seen > 40


def test_the_sql_check_sees_what_it_should() -> None:
    """Equalities, assignments and lists are found; comments and other columns are not."""
    sql = "UPDATE t SET status = 'a', failure='b' WHERE status IN ('c', 'd') AND name = 'x' -- status = 'e'"
    assert list(named_values(sql)) == [("status", "a"), ("failure", "b"), ("status", "c"), ("status", "d")]


def test_every_status_has_a_sentence_and_a_place() -> None:
    """No status is forgotten; final ones lead nowhere and all others lead on."""
    assert set(SENTENCES) == set(TRANSITIONS) == set(Status)
    assert {status for status, following in TRANSITIONS.items() if not following} == FINAL
    assert set(states.FAILURE_RULES) == set(FailureClass)


def test_every_final_status_can_be_reached() -> None:
    """From pending there is a way to every final status, and a status never becomes itself."""
    reached, frontier = {Status.PENDING}, {Status.PENDING}
    while frontier:
        frontier = {new for old in frontier for new in TRANSITIONS[old]} - reached
        reached |= frontier
    assert reached >= FINAL
    assert not any(may_become(status, status) for status in Status)
    path = (Status.PENDING, Status.QUEUED, Status.RUNNING, Status.PENDING, Status.QUEUED, Status.RUNNING)
    assert all(may_become(old, new) for old, new in pairwise(path))
