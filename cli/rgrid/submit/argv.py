"""Whose option is it? What stands before SCRIPT is rgrid's, what stands after it is the script's, but for a frozen set.

``split`` finds SCRIPT; ``take_frozen`` picks the frozen options out of what follows it. Both are pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rgrid_shared.errors import UsageError

_MANY: Final = -1

FROZEN: Final[dict[str, int]] = {
    "--batch": _MANY,
    "--batch-lines": 1,
    "--batch-json": 1,
    "--range": 1,
    "--parallel": 1,
    "--runtime": 1,
    "--remote-only": 0,
    "--watch": 0,
    "--detach": 0,
}
"""Options that rgrid understands after SCRIPT as well, and how many values each takes. This set never grows."""


@dataclass(frozen=True, slots=True)
class Line:
    """A command line taken apart.

    ``options``: rgrid's, up to SCRIPT. ``script``: the file, or the module's name if ``module``; None if there is none.
    ``args``: everything after it. ``closed``: ``--`` stood before SCRIPT, so nothing after it is rgrid's.
    """

    options: tuple[str, ...]
    script: str | None
    args: tuple[str, ...]
    module: bool
    closed: bool


def split(words: Sequence[str], values: Mapping[str, int]) -> Line:
    """Find SCRIPT in ``words``. ``values``: how many values each of rgrid's options takes (``-e`` → 1, ``-d`` → 0).

    An option that is not in ``values`` is taken to have no value; the parser refuses it later by name.
    ``-m MODULE`` ends rgrid's options as SCRIPT does.
    """
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--":
            rest = words[index + 1 :]
            return Line(tuple(words[:index]), rest[0] if rest else None, tuple(rest[1:]), False, True)
        if word == "-m" or (word.startswith("-m") and not word.startswith("--")):
            rest = words[index + 1 :] if word == "-m" else [word[2:], *words[index + 1 :]]
            return Line(tuple(words[:index]), rest[0] if rest else None, tuple(rest[1:]), True, False)
        if not word.startswith("-") or word == "-":
            return Line(tuple(words[:index]), word, tuple(words[index + 1 :]), False, False)
        index += 1 + _values_elsewhere(word, values)
    return Line(tuple(words), None, (), False, False)


def _values_elsewhere(word: str, values: Mapping[str, int]) -> int:
    """How many of the following words belong to this option."""
    if word.startswith("--"):
        return 0 if "=" in word else values.get(word, 0)
    for position, letter in enumerate(word[1:], start=2):
        count = values.get(f"-{letter}", 0)
        if count:
            return 0 if position < len(word) else count
    return 0


@dataclass(frozen=True, slots=True)
class Taken:
    """``args``: what stays with the script. ``options``: frozen options that were taken, with their values.

    ``kept``: frozen options that were left to the script because it declares them itself.
    """

    args: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    kept: tuple[str, ...]


def take_frozen(args: Sequence[str], declared: Collection[str]) -> Taken:
    """Take the frozen options out of what follows SCRIPT.

    ``declared``: options that the script declares itself; they stay with it. ``--`` ends the search and stays too.

    Raises:
        UsageError: an option lacks its value, has one too many, or stands twice.
    """
    mine: list[str] = []
    options: dict[str, tuple[str, ...]] = {}
    kept: list[str] = []
    index = 0
    while index < len(args):
        word = args[index]
        if word == "--":
            mine.extend(args[index:])
            break
        index += 1
        name, equals, value = word.partition("=")
        if name not in FROZEN:
            mine.append(word)
            continue
        if name in declared:
            kept.append(name)
            mine.append(word)
            continue
        if name in options:
            raise UsageError(f"{name} is given twice.", hint="Give it once.")
        count = FROZEN[name]
        if equals:
            if count == 0:
                raise UsageError(f"{name} takes no value.", hint=f"Write just {name}.")
            options[name] = (value,)
            continue
        end = index
        while end < len(args) and (count == _MANY or end < index + count) and not _is_option(args[end], count):
            end += 1
        if count and end == index:
            raise UsageError(
                f"{name} needs a value.",
                hint=f"If {name} is meant for the script, put -- before the script's name.",
            )
        options[name] = tuple(args[index:end])
        index = end
    return Taken(tuple(mine), options, tuple(kept))


def _is_option(word: str, count: int) -> bool:
    """True if ``word`` ends a list of values: an option, or an argument with ``{}``, which no item can be.

    A single value may start with a dash only if it is a number.
    """
    if count == _MANY and any(form in word for form in ("{}", "{/}", "{.}", "{/.}", "{#}")):
        return True
    return word.startswith("-") and (count == _MANY or not word[1:].isdigit())


def misplaced(args: Sequence[str], known: Collection[str], declared: Collection[str]) -> list[str]:
    """Long options in ``args`` that rgrid knows and the script does not declare: probably meant for rgrid."""
    found: list[str] = []
    for word in args:
        if word == "--":
            break
        name = word.partition("=")[0]
        if name.startswith("--") and name in known and name not in declared and name not in found:
            found.append(name)
    return found
