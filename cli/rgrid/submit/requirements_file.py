"""requirements.txt, flattened to plain requirement lines (pip's file format, the part that travels)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from rgrid_shared.errors import UsageError

_NAME: Final = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")
_SPEC: Final = re.compile(r"\s*(?:~=|===?|!=|<=?|>=?)\s*[\w.*+!-]+\s*")
_VCS: Final = re.compile(r"(?:^|@\s*)(?:git|hg|svn|bzr)\+", re.IGNORECASE)
_REMOTE_VCS: Final = re.compile(r"(?:^|@\s*)git\+(?:https?|ssh)://(?P<place>\S+)", re.IGNORECASE)
_SECRET: Final = re.compile(r"(?P<scheme>[a-z0-9+.-]+)://(?P<user>[^/@:\s]*)(?P<password>:[^/@\s]*)?@", re.IGNORECASE)
_VARIABLE: Final = re.compile(r"\$\{([A-Z0-9_]+)\}")
_INDEXES: Final = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
}
"""Options that travel if they name a web address, as they are called there."""
_OTHER_OPTIONS: Final = (
    "--no-index",
    "--trusted-host",
    "--pre",
    "--prefer-binary",
    "--only-binary",
    "--no-binary",
    "--require-hashes",
    "--use-feature",
)


@dataclass(slots=True)
class Parsed:
    """``lines``: requirements in order; ``options``: indexes; ``left_out``: options and constraints that stay."""

    lines: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def read(path: str, show: str) -> Parsed:
    """Read a requirements file with all that it refers to. ``show``: how the file is called in messages.

    Nested ``-r`` and ``-c`` files are taken in; a constraint counts for the packages that the files name themselves.

    Raises:
        UsageError: unreadable, a line that is no requirement, or one that cannot travel; file and line are named.
    """
    parsed = Parsed()
    constraints: list[str] = []
    _read(path, show, parsed, constraints, ())
    named = {canonical(line) for line in parsed.lines}
    for line in constraints:
        if canonical(line) in named:
            parsed.lines.append(line)
        else:
            parsed.left_out.append(f"the constraint {line}")
    parsed.lines = list(dict.fromkeys(parsed.lines))
    return parsed


def _read(path: str, show: str, parsed: Parsed, constraints: list[str] | None, above: tuple[str, ...]) -> None:
    """``constraints``: where ``-c`` files' lines go; None while such a file is read (then ``parsed.lines``)."""
    real = os.path.realpath(path)
    if real in above:
        return
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise UsageError(f"{show}: {error.strerror}.", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{show} is not UTF-8 text.", hint="Save it as UTF-8.") from error
    for number, line in _logical_lines(text):
        where = f"{show}:{number}"
        option, value = _option(line)
        if option in ("-r", "--requirement", "-c", "--constraint"):
            inner = os.path.join(os.path.dirname(path), value)
            nested = os.path.join(os.path.dirname(show), value)
            if option in ("-c", "--constraint") and constraints is not None:
                held = Parsed()
                _read(inner, nested, held, None, (*above, real))
                constraints += held.lines
                parsed.options += held.options
                parsed.left_out += held.left_out
            else:
                _read(inner, nested, parsed, constraints, (*above, real))
        elif option in ("-e", "--editable"):
            raise UsageError(
                f"{where}: an editable requirement cannot travel: {line}",
                hint="Modules that the script imports from its own project travel by themselves: drop the line.",
            )
        elif option in _INDEXES and value.startswith(("http://", "https://")):
            _no_secret(value, where)
            parsed.options.append(f"{_INDEXES[option]} {value}")
        elif option in _INDEXES or option in _OTHER_OPTIONS:
            parsed.left_out.append(f"the option {option}")
        elif option:
            raise UsageError(f"{where}: rgrid does not know the option {option}.", hint="Remove it from the file.")
        else:
            parsed.lines.append(check(line, where))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with continuations joined and comments gone, each with the number of its first physical line."""
    held, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start if held else number
        line = held + (raw.lstrip() if held else raw)
        held = ""
        if line.endswith("\\") and not raw.lstrip().startswith("#"):
            held = line[:-1].rstrip() + " "
            continue
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if line:
            yield start, line
    if held.strip():
        yield start, held.strip()


def _option(line: str) -> tuple[str, str]:
    if not line.startswith("-"):
        return "", ""
    if not line.startswith("--") and len(line) > 2 and not line[2].isspace():
        return line[:2], line[2:].lstrip("=").strip()
    name, _, value = line.replace("=", " ", 1).partition(" ")
    return name, value.strip()


def check(line: str, where: str) -> str:
    """A requirement as it travels; raises UsageError naming ``where`` if it cannot."""
    _no_secret(line, where)
    if _VCS.search(line):
        if _REMOTE_VCS.search(line):
            return line
        raise UsageError(
            f"{where}: a requirement from this repository cannot travel: {line}",
            hint="Name it as git+https://…, or a released version, for example package==1.2.",
        )
    body = re.split(r"\s--(?:hash|config-settings?|global-option)\b", line)[0]
    requirement = re.split(r"\s*;", body)[0].strip()
    archive = requirement.endswith((".whl", ".tar.gz", ".zip")) and "://" not in requirement
    if archive or requirement.startswith((".", "/", "~", "file:")):
        raise UsageError(
            f"{where}: a requirement by a local path cannot travel: {line}",
            hint="Modules that the script imports from its own project travel by themselves: drop the line.",
        )
    match = _NAME.match(requirement)
    rest = requirement[match.end() :].lstrip() if match else ""
    if rest.startswith("["):
        inside, bracket, rest = rest[1:].partition("]")
        match = match if bracket and re.fullmatch(r"[\w.,\s-]*", inside) else None
        rest = rest.lstrip()
    if match and rest.startswith("@"):
        if re.match(r"@\s*https?://", rest):
            return line
        raise UsageError(f"{where}: a requirement by a local path cannot travel: {line}", hint="Name a version of it.")
    if match and rest.startswith("(") and rest.endswith(")"):
        rest = rest[1:-1]
    if match is None or (rest and not all(_SPEC.fullmatch(part) for part in rest.split(","))):
        raise UsageError(
            f"{where}: {line!r} is not a requirement.", hint="Write it like numpy, numpy>=2 or numpy==2.1.0."
        )
    return line


def _no_secret(text: str, where: str) -> None:
    """A spec is no place for secrets: what runs elsewhere gets them as environment values, which are encrypted."""
    found = _SECRET.search(text)
    # A name alone is a token by https, and just a name by ssh.
    secret = found and (found["password"] or ("" if found["scheme"].lower().endswith("ssh") else found["user"]))
    if secret and not _VARIABLE.search(secret):
        raise UsageError(
            f"{where}: the address holds a secret.",
            hint="Write it as https://user:${TOKEN}@…, and give its value with -e TOKEN.",
        )


def canonical(line: str) -> str:
    """The normalised name of a requirement (PEP 503)."""
    match = _NAME.match(line)
    return re.sub(r"[-_.]+", "-", match[1]).lower() if match else ""


def variables(lines: Iterable[str]) -> set[str]:
    """The names that stand as ``${NAME}`` in requirements or options, for whose values the runner asks."""
    return {name for line in lines for name in _VARIABLE.findall(line)}
