"""Names of layers: everything that decides the content counts, and nothing runs into its neighbour."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rgrid_shared.layer_keys import layer_key, lock_lines, pin, resolution_key

LAYER = {
    "lock": "numpy==2.1.0 --hash=sha256:aa",
    "interpreter": "cpython-3.11.7",
    "path": "/usr/bin/python3.11",
    "image": "sha256:1234",
    "platform": "x86_64-linux",
    "accelerator": "cu124",
    "scope": "",
}
ASKED: dict[str, Any] = {
    "lines": ["numpy"],
    "options": [],
    "exact": False,
    "interpreter": "cpython-3.11.7",
    "path": "/usr/bin/python3.11",
    "image": "",
    "platform": "x86_64-linux-glibc2.36",
    "accelerator": "",
    "project": "prj_1",
    "index": "",
}
FIELDS = st.fixed_dictionaries({name: st.text(max_size=4) for name in LAYER})


def test_the_key_of_a_layer_does_not_change_by_accident() -> None:
    """Archives of the fleet are found by it: who changes the key changes ``format``, and this."""
    assert layer_key(**LAYER) == "6152c30987b23e95662367c21b915ca597834951364cc1f58c3470eba4fa2904"
    assert resolution_key(**ASKED) == "cd9da40c67a307e130f09c90a723e11e15bdaf7bb86cd0512d490e661a9a9223"


@given(FIELDS, FIELDS)
def test_two_layers_never_share_a_key(one: dict[str, str], two: dict[str, str]) -> None:
    """Keys are equal exactly if all fields are."""
    assert (layer_key(**one) == layer_key(**two)) == (one == two)


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_lines_and_options_are_told_apart(lines: list[str], options: list[str], others: list[str]) -> None:
    """Two lists of lines never come to one question, nor does a line pass for an option."""
    one = resolution_key(**{**ASKED, "lines": lines, "options": options})
    assert (one == resolution_key(**{**ASKED, "lines": others, "options": options})) == (lines == others)
    assert (one == resolution_key(**{**ASKED, "lines": options, "options": lines})) == (lines == options)


def test_a_lock_has_one_requirement_a_line() -> None:
    """Continued lines are joined, comments dropped; people see pins without hashes and addresses without secrets."""
    text = "# made by a resolver\na==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n\nb @ git+https://me:x@h.org/b@v1\n"
    lines = lock_lines(text)
    assert lines == ["a==1 --hash=sha256:aa --hash=sha256:bb", "b @ git+https://me:x@h.org/b@v1"]
    assert [pin(line) for line in lines] == ["a==1", "b @ git+https://****@h.org/b@v1"]
