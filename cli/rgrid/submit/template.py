"""``{}`` and its kin in the arguments of a batch, and the name that each item's outputs get."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from rgrid.submit.items import RawItem, as_text
from rgrid_shared.errors import UsageError
from rgrid_shared.wire import path_problem

_FORM: Final = re.compile(r"\{(|/|\.|#|/\.|[A-Za-z_][\w-]*)\}")
_UNSAFE: Final = re.compile(r"[^\w.,=+@-]+")
_MAX_SLUG: Final = 80


class Template:
    """The arguments of a batch, to be filled in for each item.

    ``{}``: the item; ``{/}``: its last path part; ``{.}``: without extension; ``{/.}``: both; ``{#}``: its index from
    0; ``{name}``: a field of a JSON object. Any other text in braces stays as it is. Without any form the item is
    appended as the last argument.
    """

    def __init__(self, args: Sequence[str], items: Sequence[RawItem]) -> None:
        """Check the forms against the items. Raises UsageError for a field that no item has."""
        known = {name for item in items if item.fields for name in item.fields}
        has_fields = any(item.fields is not None for item in items)
        self._args: list[str | list[str]] = []
        any_form = False
        for arg in args:
            parts = _FORM.split(arg)
            names = parts[1::2]
            fields = [name for name in names if name[:1].isalpha() or name.startswith("_")]
            for name in fields:
                if has_fields and name not in known:
                    listed = ", ".join(f"{{{field}}}" for field in sorted(known)) or "none"
                    raise UsageError(f"{{{name}}} in {arg!r}: no item has a field {name!r}.", hint=f"Fields: {listed}.")
            if not has_fields and fields:
                parts = _literal(parts)
            if len(parts) > 1:
                any_form = True
                self._args.append(parts)
            else:
                self._args.append(parts[0])
        if not any_form:
            self._args.append(["", "", ""])

    def fixed(self) -> list[str]:
        """Arguments that are the same for every item."""
        return [arg for arg in self._args if isinstance(arg, str)]

    def fill(self, item: RawItem, index: int) -> list[tuple[str, bool]]:
        """The arguments of one item, each with whether it depends on the item. Raises UsageError naming the item."""
        return [(arg, False) if isinstance(arg, str) else (self._fill(arg, item, index), True) for arg in self._args]

    def _fill(self, parts: list[str], item: RawItem, index: int) -> str:
        if len(parts) == 3 and not parts[1]:
            return f"{parts[0]}{item.text}{parts[2]}"
        out = [parts[0]]
        for form, text in zip(parts[1::2], parts[2::2], strict=True):
            out.append(_value(form, item, index))
            out.append(text)
        return "".join(out)


def _literal(parts: list[str]) -> list[str]:
    """Take ``{name}`` back as plain text: the items have no fields."""
    merged = [parts[0]]
    for form, text in zip(parts[1::2], parts[2::2], strict=True):
        if form[:1].isalpha() or form.startswith("_"):
            merged[-1] += f"{{{form}}}{text}"
        else:
            merged += [form, text]
    return merged


def _value(form: str, item: RawItem, index: int) -> str:
    match form:
        case "":
            return item.text
        case "/":
            return item.text.rstrip("/").rpartition("/")[2]
        case ".":
            return _without_extension(item.text)
        case "/.":
            return _without_extension(item.text.rstrip("/").rpartition("/")[2])
        case "#":
            return str(index)
    fields: Mapping[str, object] = item.fields or {}
    if form not in fields:
        raise UsageError(
            f"{item.where} has no field {form!r}, which {{{form}}} asks for.", hint="Add it, or drop the form."
        )
    return as_text(fields[form])


def _without_extension(text: str) -> str:
    return os.path.splitext(text)[0]


def output_names(items: Sequence[RawItem], cwd: str) -> list[str]:
    """A directory name below ``outputs/`` for each item: short, safe as a path, unique, none inside another.

    Files go by their own name; if two share one, all go by their path below their common directory. Anything else
    goes by its text, made safe.
    """
    if items and all(item.is_path for item in items):
        names = _path_names(items, cwd)
    else:
        names = [_slug(item, index) for index, item in enumerate(items)]
    return _apart(names)


def _path_names(items: Sequence[RawItem], cwd: str) -> list[str]:
    paths = [os.path.normpath(os.path.join(cwd, item.text)) for item in items]
    names = [path.rpartition("/")[2] or "root" for path in paths]
    if len({name.casefold() for name in names}) < len(names) and len(set(paths)) > 1:
        # The parents' ancestor: an item that holds another must keep a name of its own.
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, common) if path.strip("/") else "root" for path in paths]
    for name, item in zip(names, items, strict=True):
        problem = path_problem(name)
        if problem:
            raise UsageError(f"The name of {item.text!r} {problem}.", hint="Rename the file.")
    return names


def _slug(item: RawItem, index: int) -> str:
    if item.fields is not None:
        text = ",".join(f"{key}={value}" for key, value in item.fields.items() if isinstance(value, str | int | float))
    else:
        text = item.text
    slug = _UNSAFE.sub("_", text).strip("_.")[:_MAX_SLUG].rstrip("_.")
    while len(slug.encode()) > 200:
        slug = slug[:-1]
    return slug or str(index)


def _apart(names: list[str]) -> list[str]:
    """Add ``~2``, ``~3`` … where two names are the same but for case, or where one is a directory above another."""
    above: set[str] = set()
    for name in names:
        parent = name.casefold().rpartition("/")[0]
        while parent and parent not in above:
            above.add(parent)
            parent = parent.rpartition("/")[0]
    taken: set[str] = set()
    tries: Counter[str] = Counter()
    result: list[str] = []
    for name in names:
        candidate, folded = name, name.casefold()
        while folded in taken or folded in above:
            tries[name] += 1
            candidate = f"{name}~{tries[name] + 1}"
            folded = candidate.casefold()
        taken.add(folded)
        result.append(candidate)
    return result
