"""What rgrid prints cannot drive the terminal, and obeys the usual switches."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid import output
from rgrid_shared.errors import NotFound, UsageError


@given(st.text())
def test_cleaned_text_holds_no_control_characters(text: str) -> None:
    """Whatever a name holds, none of it reaches the terminal as a command."""
    shown = output.clean(text)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert not set(shown) & set("\u202e\u2066\u2069\u200f")


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "Zs"])))
def test_ordinary_text_stays(text: str) -> None:
    """Letters, digits and punctuation of any script are shown as they are."""
    assert output.clean(text) == text


def test_escapes_are_shown() -> None:
    """A hostile name is shown, not obeyed."""
    assert output.clean("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"
    assert output.clean("a\nb", lines=True) == "a\nb"


def test_lone_surrogates_are_shown() -> None:
    """Names that are not UTF-8 can be printed."""
    assert output.clean("\udcff") == "\\udcff"


@pytest.mark.parametrize(
    ("env", "wanted"),
    [({"CLICOLOR_FORCE": "1"}, True), ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False), ({}, False)],
)
def test_colour_switches(env: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR wins over CLICOLOR_FORCE, which wins over a stream that is no terminal."""
    for name in ("NO_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert output.coloured(io.StringIO()) is wanted


def test_tables_align_wide_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns line up by what a terminal shows, not by code points."""
    output.table(["A", "B"], [["日本", "x"], ["ab", "y"], [output.Cell("c\x1b", "31"), "z"]])
    assert capsys.readouterr().out.splitlines() == ["A      B", "日本   x", "ab     y", "c\\x1b  z"]


def test_errors_are_json_when_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--json`` an error is one document on stdout, with its code and hint."""
    monkeypatch.setattr(output.mode, "json", True)
    output.show_error(NotFound("There is no batch x.", hint="rgrid list"))
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["hint"]) == ("not_found", "rgrid list")


def test_every_line_of_an_error_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line on stderr begins with rgrid's mark, so that it can be told from the script's."""
    output.show_error(UsageError("one\ntwo", hint="three"))
    output.say("four\nfive")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("rgrid: ") for line in lines)


def test_questions_are_never_asked_off_a_terminal() -> None:
    """Without a terminal ``-y`` answers, and its absence is an error, not a wait."""
    assert output.confirm("Delete it?", yes=True)
    with pytest.raises(UsageError) as caught:
        output.confirm("Delete it?", yes=False)
    assert "-y" in caught.value.hint
