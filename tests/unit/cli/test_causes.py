"""Failures grouped by what caused them."""

from __future__ import annotations

from typing import Any, cast

from rgrid.follow.causes import Causes, shape_of
from rgrid_shared.states import FailureClass
from rgrid_shared.views import ExecutionView


def failure(index: int, message: str, kind: FailureClass = FailureClass.SCRIPT) -> ExecutionView:
    view: dict[str, Any] = {
        "index": index,
        "status": kind.rule.status,
        "failure": kind,
        "exit_code": 1,
        "message": message,
    }
    return cast("ExecutionView", view)


def test_the_same_fault_in_different_items_is_one_cause() -> None:
    """Numbers, addresses, quoted values and names of files do not tell causes apart."""
    causes = Causes()
    for index in range(37):
        causes.add(failure(index, f"Traceback…\n  File x\nValueError: cannot read in/{index}.csv at 0x7f{index:04x}ab"))
    for index in range(37, 40):
        causes.add(failure(index, "KeyError: 'a'"))
    first, second = causes.lines()
    assert first == "37 × ValueError: cannot read in/0.csv at 0x7f0000ab (items 0, 1, 2, 3, 4, …)"
    assert second == "3 × KeyError: 'a' (items 37, 38, 39)"


def test_an_item_counts_once() -> None:
    """A repeated message or a retry that fails otherwise moves the item; one that succeeds takes it out."""
    causes = Causes()
    causes.add(failure(1, "A: one"))
    causes.add(failure(1, "A: one"))
    assert len(causes) == 1
    causes.add(failure(1, "B: two"))
    assert causes.lines() == ["1 × B: two (item 1)"]
    causes.remove(1)
    assert causes.lines() == []


def test_faults_of_the_grid_have_words_of_their_own() -> None:
    """What the script could not say is said by the failure's class."""
    causes = Causes()
    causes.add(failure(0, "", FailureClass.TIMEOUT))
    assert "time limit" in causes.lines()[0]


def test_different_faults_stay_apart() -> None:
    """Only what varies is taken out."""
    assert shape_of("ValueError: bad header") != shape_of("ValueError: bad footer")
    assert shape_of("KeyError: 'x1'") == shape_of('KeyError: "y"')


def test_long_lists_are_cut() -> None:
    """The largest causes are shown; how many more there are is said."""
    causes = Causes()
    for index in range(9):
        causes.add(failure(index, f"Error{chr(65 + index)}: x"))
    assert causes.lines(5)[-1] == "and 4 other causes"
