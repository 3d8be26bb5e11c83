"""Where items come from, how they are filled in, and what their outputs are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.submit.braces import expand_braces
from rgrid.submit.items import Files, JsonItems, Lines, Range, RawItem, Values, load
from rgrid.submit.template import Template, output_names
from rgrid_shared.errors import TooLarge, UsageError
from rgrid_shared.wire import path_problem


def texts(source: Files | Lines | JsonItems | Range | Values, cwd: Path) -> list[str]:
    return [item.text for item in load(source, str(cwd))]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("in/a.csv", "in/b.csv", "in/deep/c.csv", "in/odd name [1].csv", "in/.hidden.csv", "in/x.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (("in/*.csv",), ["in/a.csv", "in/b.csv", "in/odd name [1].csv"]),
        (("in/**/*.csv",), ["in/a.csv", "in/b.csv", "in/deep/c.csv", "in/odd name [1].csv"]),
        (("in/a.csv", "in/x.txt"), ["in/a.csv", "in/x.txt"]),
        (("in/odd name [1].csv",), ["in/odd name [1].csv"]),
        (("in/{a,b}.csv",), ["in/a.csv", "in/b.csv"]),
        (("in/{b,a}.csv",), ["in/b.csv", "in/a.csv"]),
        (("in/[ab].csv",), ["in/a.csv", "in/b.csv"]),
        (("in/?.txt",), ["in/x.txt"]),
        (("in/*",), ["in/a.csv", "in/b.csv", "in/odd name [1].csv", "in/x.txt"]),
        (("in/d*",), ["in/deep"]),
        (("in/deep",), ["in/deep"]),
    ],
)
def test_globs_name_files(tree: Path, patterns: tuple[str, ...], found: list[str]) -> None:
    """Globs give files in a stable order; directories only where nothing else matches."""
    assert texts(Files(patterns), tree) == found


@pytest.mark.parametrize("pattern", ["none/*.csv", "in/*.parquet", "missing.csv", "in/{1..3}.csv"])
def test_a_glob_that_matches_nothing_is_refused(tree: Path, pattern: str) -> None:
    """Nothing to run is an error that names the pattern."""
    with pytest.raises(UsageError, match=r"nothing matches|no file") as caught:
        load(Files((pattern,)), str(tree))
    assert caught.value.hint


def test_environments_are_not_searched(tree: Path) -> None:
    """``**`` does not look into virtual environments and caches."""
    (tree / "env/lib").mkdir(parents=True)
    (tree / "env/pyvenv.cfg").touch()
    (tree / "env/lib/z.csv").touch()
    assert not any(text.startswith("env/") for text in texts(Files(("**/*.csv",)), tree))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a{1..3}", ["a1", "a2", "a3"]),
        ("a{3..1}", ["a3", "a2", "a1"]),
        ("{01..03}", ["01", "02", "03"]),
        ("{8..010}", ["008", "009", "010"]),
        ("{0..10..5}", ["0", "5", "10"]),
        ("{a..c}", ["a", "b", "c"]),
        ("{a,b{1,2}}x", ["ax", "b1x", "b2x"]),
        ("{x}", ["{x}"]),
        ("{}", ["{}"]),
        ("a{", ["a{"]),
        ("{1..2}{a,b}", ["1a", "1b", "2a", "2b"]),
        ("{,x}", ["", "x"]),
        ("{-1..1}", ["-1", "0", "1"]),
    ],
)
def test_braces_expand_as_in_bash(text: str, words: list[str]) -> None:
    """Brace ranges and lists give bash's words in bash's order."""
    assert expand_braces(text, 100) == words


def test_a_brace_range_has_a_limit() -> None:
    """A range beyond what a batch takes is refused before it fills the memory."""
    with pytest.raises(TooLarge):
        expand_braces("{1..200000}", 100_000)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1-3", ["1", "2", "3"]),
        ("1..3", ["1", "2", "3"]),
        ("3-1", ["3", "2", "1"]),
        ("0-90:30", ["0", "30", "60", "90"]),
        ("001-003", ["001", "002", "003"]),
        ("7", ["7"]),
        ("1-2,7", ["1", "2", "7"]),
        ("-1-1", ["-1", "0", "1"]),
    ],
)
def test_ranges(tmp_path: Path, text: str, numbers: list[str]) -> None:
    """A range counts up or down, in steps, with the zeros that it was written with."""
    assert texts(Range(text), tmp_path) == numbers


@pytest.mark.parametrize("text", ["", "a-b", "1-", "1-2:0", "1.5-2", "1-2-3"])
def test_bad_ranges_are_refused(tmp_path: Path, text: str) -> None:
    """What is no range is refused with an example."""
    with pytest.raises(UsageError, match="--range"):
        load(Range(text), str(tmp_path))


def test_too_many_items_are_refused(tmp_path: Path) -> None:
    """A batch holds 100,000 items."""
    with pytest.raises(TooLarge, match="100,000"):
        load(Range("1-100001"), str(tmp_path))


def test_lines(tmp_path: Path) -> None:
    """Each line that is not blank is an item as it stands."""
    (tmp_path / "urls").write_bytes(b"\xef\xbb\xbfone\r\n\n two \n\xc3\xbc\n")
    assert texts(Lines("urls"), tmp_path) == ["one", " two ", "ü"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"ok\n\xff\n", "line 2 of f is not UTF-8"), (b"a\0b\n", "line 1 of f holds a NUL"), (b"\n \n", "no items")],
)
def test_bad_lines_are_named(tmp_path: Path, content: bytes, problem: str) -> None:
    """A line that cannot be an item is named by its number."""
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(UsageError, match=problem):
        load(Lines("f"), str(tmp_path))


def test_a_missing_item_file_is_named(tmp_path: Path) -> None:
    """A file of items that is not there is named with its option."""
    with pytest.raises(UsageError, match=r"--batch-lines nope: No such file"):
        load(Lines("nope"), str(tmp_path))


@pytest.mark.parametrize(
    ("content", "items"),
    [
        ('"a"\n{"x": 1}\n3\n[1, 2]\n', ["a", '{"x":1}', "3", "[1,2]"]),
        ('["a", {"x": 1}]', ["a", '{"x":1}']),
        ('[\n  "a",\n  "b"\n]\n', ["a", "b"]),
        ("[1,2]\n[3,4]\n", ["[1,2]", "[3,4]"]),
        ('{"name": "ü"}', ['{"name":"ü"}']),
    ],
)
def test_json_items(tmp_path: Path, content: str, items: list[str]) -> None:
    """One JSON value a line, or one array; strings stand for themselves, other values as compact JSON."""
    (tmp_path / "f").write_text(content)
    assert texts(JsonItems("f"), tmp_path) == items


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    """The line number of what is not JSON stands in the message."""
    (tmp_path / "f").write_text('{"a": 1}\n\n{oops}\n')
    with pytest.raises(UsageError, match="line 3 of f is not JSON"):
        load(JsonItems("f"), str(tmp_path))


def test_json_with_a_nul_is_refused(tmp_path: Path) -> None:
    """No argument can hold a NUL, so no item may."""
    (tmp_path / "f").write_text('"a\\u0000b"\n')
    with pytest.raises(UsageError, match="line 1 of f holds a NUL"):
        load(JsonItems("f"), str(tmp_path))


def fill(args: str, item: RawItem, index: int = 0) -> list[str]:
    return [text for text, _ in Template(args.split(), [item]).fill(item, index)]


FILE = RawItem("in/a.tar.csv", "'in/a.tar.csv'", True)
FIELDS = RawItem('{"lr":0.1,"tag":"x"}', "line 1 of f", fields={"lr": 0.1, "tag": "x"})


@pytest.mark.parametrize(
    ("args", "item", "filled"),
    [
        ("", FILE, ["in/a.tar.csv"]),
        ("-v", FILE, ["-v", "in/a.tar.csv"]),
        ("{} -v", FILE, ["in/a.tar.csv", "-v"]),
        ("{/}", FILE, ["a.tar.csv"]),
        ("{.}.png", FILE, ["in/a.tar.png"]),
        ("{/.}", FILE, ["a.tar"]),
        ("{#}", FILE, ["7"]),
        ("--in={} --out=o/{/.}-{#}.x", FILE, ["--in=in/a.tar.csv", "--out=o/a.tar-7.x"]),
        ("{}{}", FILE, ["in/a.tar.csvin/a.tar.csv"]),
        ("{lr}", FILE, ["{lr}", "in/a.tar.csv"]),
        ('{"a":1}', FILE, ['{"a":1}', "in/a.tar.csv"]),
        ("--lr {lr} --tag={tag}", FIELDS, ["--lr", "0.1", "--tag=x"]),
        ("{}", FIELDS, ['{"lr":0.1,"tag":"x"}']),
    ],
)
def test_templates(args: str, item: RawItem, filled: list[str]) -> None:
    """``{}`` and its kin stand for the item; without them it is appended; other braces mean nothing."""
    assert fill(args, item, 7) == filled


def test_a_field_that_no_item_has_is_refused() -> None:
    """A misspelt field is refused with the fields that there are."""
    with pytest.raises(UsageError, match="no item has a field 'rl'") as caught:
        Template(["{rl}"], [FIELDS])
    assert "{lr}" in caught.value.hint


def test_a_field_that_one_item_lacks_is_refused_by_line() -> None:
    """The item that lacks a field is named."""
    other = RawItem("{}", "line 2 of f", fields={})
    template = Template(["{lr}"], [FIELDS, other])
    with pytest.raises(UsageError, match="line 2 of f has no field 'lr'"):
        template.fill(other, 1)


def names(paths: list[str]) -> list[str]:
    return output_names([RawItem(path, path, True) for path in paths], "/w")


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["in/a.csv", "in/b.csv"], ["a.csv", "b.csv"]),
        (["x/a.csv", "y/a.csv"], ["x/a.csv", "y/a.csv"]),
        (["../x/a.csv", "y/a.csv"], ["x/a.csv", "w/y/a.csv"]),
        (["a.csv", "a.csv"], ["a.csv", "a.csv~2"]),
        (["A.csv", "x/a.csv"], ["A.csv", "x/a.csv"]),
        (["A.csv", "a.csv"], ["A.csv", "a.csv~2"]),
        (["/data/x.bin"], ["x.bin"]),
        (["d", "d/d"], ["d~2", "d/d"]),
    ],
)
def test_outputs_of_files_are_named_by_them(paths: list[str], found: list[str]) -> None:
    """Items that share a name never share a directory, nor lies one's inside another's."""
    assert names(paths) == found


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (RawItem("https://x.org/a?b=1", ""), "https_x.org_a_b=1"),
        (RawItem("../../etc/passwd", ""), "etc_passwd"),
        (RawItem("", ""), "0"),
        (RawItem("...", ""), "0"),
        (FIELDS, "lr=0.1,tag=x"),
        (RawItem("a\nb\x1b[31m", ""), "a_b_31m"),
    ],
)
def test_outputs_of_texts_are_named_safely(item: RawItem, name: str) -> None:
    """A text becomes a name that is safe as a path."""
    assert output_names([item], "/w") == [name]


@given(st.lists(st.text(max_size=120), min_size=1, max_size=30))
def test_output_names_are_legal_and_apart(items: list[str]) -> None:
    """Whatever the items are, their names are unique, legal on the wire, and none lies inside another."""
    found = output_names([RawItem(text, "") for text in items], "/w")
    assert len({name.casefold() for name in found}) == len(items)
    assert all(path_problem(name) is None for name in found)
    assert not any(other.startswith(name + "/") for name in found for other in found)


@given(st.lists(st.text(alphabet="ab/.A", min_size=1, max_size=6), min_size=1, max_size=12))
def test_output_names_of_paths_are_legal_and_apart(paths: list[str]) -> None:
    """The same for paths, however they overlap."""
    found = names(paths)
    assert len({name.casefold() for name in found}) == len(paths)
    assert all(path_problem(name) is None for name in found)
    assert not any(other.startswith(name + "/") for name in found for other in found)


@given(st.lists(st.integers() | st.text(alphabet=st.characters(exclude_characters="\0")), min_size=1, max_size=5))
def test_python_values_become_items(values: list[object]) -> None:
    """Values from Python stand for themselves, as text or as JSON."""
    found = [item.text for item in load(Values(tuple(values)), "/")]
    assert found == [value if isinstance(value, str) else json.dumps(value) for value in values]
