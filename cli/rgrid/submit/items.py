"""Where a batch's items come from: files, lines, JSON, a range of numbers, or values from Python."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rgrid.submit.braces import expand_braces
from rgrid.submit.ignore import never_folder
from rgrid_shared.errors import TooLarge, UsageError
from rgrid_shared.specs import MAX_ITEMS

_SPAN: Final = re.compile(r"(-?\d+)(?:(?:-|\.\.)(-?\d+)(?::(\d+))?)?")


@dataclass(frozen=True, slots=True)
class Files:
    """``--batch``: globs (``**``, ``{1..9}``, ``{a,b}``) and names of files."""

    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """``--batch-lines``: each line of a file that is not blank; ``-`` is stdin."""

    path: str


@dataclass(frozen=True, slots=True)
class JsonItems:
    """``--batch-json``: one JSON value a line, or one JSON array; ``-`` is stdin."""

    path: str


@dataclass(frozen=True, slots=True)
class Range:
    """``--range``: ``1-100``, ``0-90:10``, ``001-100``, ``1-3,7``."""

    text: str


@dataclass(frozen=True, slots=True)
class Values:
    """Values from Python: strings as they are, anything else as JSON (a mapping's fields as ``{field}``)."""

    values: tuple[object, ...]


ItemSource = Files | Lines | JsonItems | Range | Values


class RawItem(NamedTuple):
    """One item. ``text`` stands for ``{}``; ``fields`` for ``{name}``; ``where`` says where it came from.

    ``is_path``: the text is the path of an existing file or directory.
    """

    text: str
    where: str
    is_path: bool = False
    fields: Mapping[str, object] | None = None


def load(source: ItemSource, cwd: str) -> list[RawItem]:
    """All items in order.

    Raises:
        UsageError: nothing matches, a file cannot be read, a line is not JSON (it is named).
        TooLarge: more than 100,000 items.
    """
    if isinstance(source, Files):
        items = _files(source.patterns, cwd)
    elif isinstance(source, Lines):
        items = [RawItem(line, where) for line, where in _lines(source.path, cwd, "--batch-lines")]
    elif isinstance(source, JsonItems):
        items = _json(source.path, cwd)
    elif isinstance(source, Range):
        items = [RawItem(number, f"item {number}") for number in _numbers(source.text)]
    else:
        items = [_from_json(value, f"value {number}") for number, value in enumerate(source.values)]
    if not items:
        named = source.path if isinstance(source, Lines | JsonItems) else "The batch"
        raise UsageError(f"{named} has no items.", hint="Check where its items come from; empty lines are no items.")
    if len(items) > MAX_ITEMS:
        raise _too_many(len(items))
    return items


def _too_many(count: int) -> TooLarge:
    return TooLarge(f"The batch has {count:,} items; at most {MAX_ITEMS:,} fit.", hint="Split it into several batches.")


def _files(patterns: Sequence[str], cwd: str) -> list[RawItem]:
    items: list[RawItem] = []
    for typed in patterns:
        if "\0" in typed:
            raise UsageError("--batch: a name holds a NUL byte.", hint="File names cannot hold one.")
        expanded = [typed] if os.path.lexists(os.path.join(cwd, typed)) else expand_braces(typed, MAX_ITEMS)
        for pattern in expanded:
            items += [RawItem(path, repr(path), True) for path in _expand(pattern, cwd)]
            if len(items) > MAX_ITEMS:
                raise _too_many(len(items))
    return items


def _expand(pattern: str, cwd: str) -> list[str]:
    pattern = os.path.expanduser(pattern)
    full = os.path.join(cwd, pattern)
    if os.path.exists(full):
        return [pattern]
    if not any(char in pattern for char in "*?["):
        hint = "Check its path. For numbers there is --range 1-100, for other texts --batch-lines FILE."
        raise UsageError(f"--batch: there is no file {pattern!r}.", hint=hint)
    from glob import glob

    matches = sorted(glob(pattern, root_dir=cwd, recursive=True))
    if "**" in pattern:
        matches = _outside_environments(matches, cwd)
    files = [path for path in matches if os.path.isfile(os.path.join(cwd, path))]
    found = files or [path.rstrip("/") for path in matches if os.path.isdir(os.path.join(cwd, path))]
    if not found:
        raise UsageError(
            f"--batch: nothing matches {pattern!r}.",
            hint=f"Looked for in {cwd}. If --batch is meant for the script, put -- before the script's name.",
        )
    return found


def _outside_environments(paths: Sequence[str], cwd: str) -> list[str]:
    verdicts: dict[str, bool] = {"": False}

    def shut(folder: str) -> bool:
        known = verdicts.get(folder)
        if known is None:
            parent, _, name = folder.rpartition("/")
            known = shut(parent) or never_folder(os.path.join(cwd, folder), name)
            verdicts[folder] = known
        return known

    return [path for path in paths if not shut(os.path.dirname(path).lstrip("/"))]


def _text(name: str, cwd: str, option: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        with open(os.path.join(cwd, name), "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"{option} {name}: {error.strerror}.", hint="Check the path.") from error


def _lines(name: str, cwd: str, option: str) -> Iterator[tuple[str, str]]:
    shown = "stdin" if name == "-" else name
    for number, raw in enumerate(_text(name, cwd, option).removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        where = f"line {number} of {shown}"
        if b"\0" in raw:
            raise UsageError(f"{where} holds a NUL byte.", hint="Put one item on each line.")
        try:
            line = raw.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise UsageError(f"{where} is not UTF-8 text.", hint="Save the file as UTF-8.") from error
        if line.strip():
            yield line, where


def _json(name: str, cwd: str) -> list[RawItem]:
    lines = list(_lines(name, cwd, "--batch-json"))
    if lines and lines[0][0].lstrip().startswith("["):
        whole = _array([line for line, _ in lines])
        if whole is not None:
            return [_from_json(value, f"element {number} of {name}") for number, value in enumerate(whole)]
    items: list[RawItem] = []
    for line, where in lines:
        try:
            items.append(_from_json(json.loads(line), where))
        except ValueError as error:
            problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UsageError(
                f"{where} is not JSON: {problem}.", hint="Write one JSON value on each line, or one JSON array."
            ) from error
    return items


def _array(lines: Sequence[str]) -> list[object] | None:
    """The elements, if the file is one JSON array (and not a line of JSON for each item)."""
    try:
        value = json.loads("\n".join(lines))
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _from_json(value: object, where: str) -> RawItem:
    text = as_text(value)
    if "\0" in text:
        raise UsageError(f"{where} holds a NUL byte.", hint="No argument of a program can hold one.")
    return RawItem(text, where, fields=value if isinstance(value, Mapping) else None)


def as_text(value: object) -> str:
    """A value as an argument: a string as it is, anything else as compact JSON."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{value!r} cannot be an item: {error}.", hint="Items are strings or JSON values.") from error


def _numbers(text: str) -> list[str]:
    numbers: list[str] = []
    for part in text.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"--range {text!r} is not a range.", hint="Write it like --range 1-100 or --range 0-90:10."
            )
        first, last, step = match[1], match[2] or match[1], int(match[3] or 1)
        if step == 0:
            raise UsageError(f"--range {text!r} has a step of 0.", hint="Write it like --range 0-90:10.")
        low, high = int(first), int(last)
        span = range(low, high + 1, step) if low <= high else range(low, high - 1, -step)
        if len(numbers) + len(span) > MAX_ITEMS:
            raise _too_many(len(numbers) + len(span))
        digits = first.lstrip("-")
        width = len(first) if len(digits) > 1 and digits.startswith("0") else 0
        numbers += [f"{number:0{width}d}" if width else str(number) for number in span]
    return numbers
