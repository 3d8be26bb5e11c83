"""Which words of a command line are rgrid's and which are the script's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.submit import argv
from rgrid.submit.argv import FROZEN, Line, Taken, misplaced, split, take_frozen
from rgrid_shared.errors import UsageError

VALUES = {
    "--batch": 1,
    "--parallel": 1,
    "--name": 1,
    "-e": 1,
    "--env": 1,
    "-d": 0,
    "--detach": 0,
    "-q": 0,
    "-o": 1,
    "--network": 0,
    "--no-network": 0,
}

SPLITS = [
    ("s.py", Line((), "s.py", (), False, False)),
    ("s.py a b", Line((), "s.py", ("a", "b"), False, False)),
    (
        "train.py --epochs 5 -n 3 --name x --help",
        Line((), "train.py", ("--epochs", "5", "-n", "3", "--name", "x", "--help"), False, False),
    ),
    ("-d s.py", Line(("-d",), "s.py", (), False, False)),
    ("--name x s.py", Line(("--name", "x"), "s.py", (), False, False)),
    ("--name=x s.py", Line(("--name=x",), "s.py", (), False, False)),
    ("--name= s.py", Line(("--name=",), "s.py", (), False, False)),
    ("-e KEY s.py", Line(("-e", "KEY"), "s.py", (), False, False)),
    ("-eKEY=1 s.py", Line(("-eKEY=1",), "s.py", (), False, False)),
    ("-dq s.py", Line(("-dq",), "s.py", (), False, False)),
    ("-dqe KEY s.py", Line(("-dqe", "KEY"), "s.py", (), False, False)),
    ("-dqeKEY s.py", Line(("-dqeKEY",), "s.py", (), False, False)),
    ("--no-network s.py --x", Line(("--no-network",), "s.py", ("--x",), False, False)),
    (
        "--batch *.png -- convert.py {} --runtime x",
        Line(("--batch", "*.png"), "convert.py", ("{}", "--runtime", "x"), False, True),
    ),
    ("-- s.py --batch x", Line((), "s.py", ("--batch", "x"), False, True)),
    ("-- -odd.py", Line((), "-odd.py", (), False, True)),
    ("s.py -- a", Line((), "s.py", ("--", "a"), False, False)),
    ("-m pkg.mod a -b", Line((), "pkg.mod", ("a", "-b"), True, False)),
    ("-d -m mod", Line(("-d",), "mod", (), True, False)),
    ("-mmod a", Line((), "mod", ("a",), True, False)),
    ("-m", Line((), None, (), True, False)),
    ("", Line((), None, (), False, False)),
    ("-d", Line(("-d",), None, (), False, False)),
    ("--", Line((), None, (), False, True)),
    ("--unknown s.py", Line(("--unknown",), "s.py", (), False, False)),
    ("--name -- s.py", Line(("--name", "--"), "s.py", (), False, False)),
    ("- x", Line((), "-", ("x",), False, False)),
    ("-o out s.py -o theirs", Line(("-o", "out"), "s.py", ("-o", "theirs"), False, False)),
]


@pytest.mark.parametrize(("text", "line"), SPLITS)
def test_script_is_found(text: str, line: Line) -> None:
    """The first word that is no option, nor an option's value, is SCRIPT; all after it is the script's."""
    assert split(text.split(), VALUES) == line


TAKEN = [
    ("a b", (), Taken(("a", "b"), {}, ())),
    (
        "--batch data/a.csv data/b.csv --parallel 20",
        (),
        Taken((), {"--batch": ("data/a.csv", "data/b.csv"), "--parallel": ("20",)}, ()),
    ),
    ("x --batch a b -v", (), Taken(("x", "-v"), {"--batch": ("a", "b")}, ())),
    ("--batch=*.csv x", (), Taken(("x",), {"--batch": ("*.csv",)}, ())),
    ("--batch *.csv {} out/{/}", (), Taken(("{}", "out/{/}"), {"--batch": ("*.csv",)}, ())),
    ("--batch *.csv --to {.}.png", (), Taken(("--to", "{.}.png"), {"--batch": ("*.csv",)}, ())),
    ("--batch-lines urls.txt -q", (), Taken(("-q",), {"--batch-lines": ("urls.txt",)}, ())),
    ("--batch-json grid.jsonl", (), Taken((), {"--batch-json": ("grid.jsonl",)}, ())),
    ("--range 1-100 --seed {}", (), Taken(("--seed", "{}"), {"--range": ("1-100",)}, ())),
    ("--range=1-100", (), Taken((), {"--range": ("1-100",)}, ())),
    ("--detach a", (), Taken(("a",), {"--detach": ()}, ())),
    ("--watch", (), Taken((), {"--watch": ()}, ())),
    ("--remote-only x", (), Taken(("x",), {"--remote-only": ()}, ())),
    ("--runtime python3.12 x", (), Taken(("x",), {"--runtime": ("python3.12",)}, ())),
    ("-d -q --json --timeout 3", (), Taken(("-d", "-q", "--json", "--timeout", "3"), {}, ())),
    ("-- --batch a", (), Taken(("--", "--batch", "a"), {}, ())),
    ("--batch a -- --parallel 3", (), Taken(("--", "--parallel", "3"), {"--batch": ("a",)}, ())),
    ("--batch 32 --lr 1", ("--batch",), Taken(("--batch", "32", "--lr", "1"), {}, ("--batch",))),
    ("--batch=32", ("--batch",), Taken(("--batch=32",), {}, ("--batch",))),
    ("--batch a --parallel 4", ("--parallel",), Taken(("--parallel", "4"), {"--batch": ("a",)}, ("--parallel",))),
    ("--batch-size 32", (), Taken(("--batch-size", "32"), {}, ())),
    ("--parallel=20", (), Taken((), {"--parallel": ("20",)}, ())),
    ("--batchy x", (), Taken(("--batchy", "x"), {}, ())),
    ("", (), Taken((), {}, ())),
]


@pytest.mark.parametrize(("text", "declared", "taken"), TAKEN)
def test_the_frozen_set_is_taken_after_the_script(text: str, declared: tuple[str, ...], taken: Taken) -> None:
    """After SCRIPT only the frozen options are rgrid's, and not even those that the script declares."""
    assert take_frozen(text.split(), declared) == taken


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("--batch", "needs a value"),
        ("--batch --parallel 3", "needs a value"),
        ("--batch {}", "needs a value"),
        ("--parallel", "needs a value"),
        ("--parallel --x", "needs a value"),
        ("--detach=yes", "takes no value"),
        ("--range 1-2 --range 3-4", "twice"),
        ("--batch a --batch b", "twice"),
    ],
)
def test_misuse_after_the_script_is_refused(text: str, problem: str) -> None:
    """A frozen option without its value, with one too many, or twice is refused by name."""
    with pytest.raises(UsageError, match=problem) as caught:
        take_frozen(text.split(), ())
    assert caught.value.hint


def test_the_frozen_set_is_frozen() -> None:
    """The options that rgrid takes after SCRIPT are these, for good."""
    assert set(FROZEN) == {
        "--batch",
        "--batch-lines",
        "--batch-json",
        "--range",
        "--parallel",
        "--runtime",
        "--remote-only",
        "--watch",
        "--detach",
    }


@pytest.mark.parametrize(
    ("args", "declared", "found"),
    [
        ("--name x --timeout 3", (), ["--name", "--timeout"]),
        ("--name=x", (), ["--name"]),
        ("--name x", ("--name",), []),
        ("--epochs 3 -d", (), []),
        ("-- --name x", (), []),
        ("--name a --name b", (), ["--name"]),
    ],
)
def test_options_that_look_like_rgrids_are_noticed(args: str, declared: tuple[str, ...], found: list[str]) -> None:
    """A long option of rgrid's that went to a script which does not declare it is worth a note."""
    assert misplaced(args.split(), {"--name", "--timeout"}, declared) == found


WORDS = st.text(alphabet="-abm= {}/", max_size=8)


@given(st.lists(WORDS, max_size=8))
def test_no_word_is_lost_or_reordered(words: list[str]) -> None:
    """Options, SCRIPT and ARGS put together again are the command line."""
    line = split(words, VALUES)
    back = [*line.options]
    if line.closed:
        back.append("--")
    script = [] if line.script is None else [line.script]
    if line.module and [*back, "-m", *script, *line.args] != words:
        back.append("-m" + script.pop())
    elif line.module:
        back.append("-m")
    assert [*back, *script, *line.args] == words


@given(st.lists(WORDS, max_size=8))
def test_a_script_that_declares_everything_keeps_everything(words: list[str]) -> None:
    """Nothing is taken from a script that declares every frozen option."""
    assert take_frozen(words, FROZEN).args == tuple(words)


@given(st.lists(WORDS, max_size=8))
def test_arguments_without_frozen_names_pass_untouched(words: list[str]) -> None:
    """Arguments of which none is a frozen option reach the script as typed."""
    if not any(word.partition("=")[0] in argv.FROZEN for word in words):
        assert take_frozen(words, ()).args == tuple(words)
