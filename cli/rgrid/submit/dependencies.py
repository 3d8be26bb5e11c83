"""What a script needs from package indexes, from the first source that says so.

PEP 723 block → ``--requirements`` → ``requirements.txt`` beside the script → its project's ``pyproject.toml`` (and
``uv.lock``) → the user's own interpreter, pinned to what is installed there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from rgrid.submit import interpreters, requirements_file
from rgrid.submit.imports import Wanted
from rgrid.submit.interpreters import Distribution, Interpreter
from rgrid.submit.locate import Located
from rgrid.submit.pep723 import Block
from rgrid_shared.errors import UsageError
from rgrid_shared.specs import Requirements


@dataclass(frozen=True, slots=True)
class Declared:
    """Requirements that stand written somewhere; ``notes``: what to say about them."""

    requirements: Requirements
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """What the user's interpreter says: pins, and directories of source installs whose code must travel instead."""

    requirements: Requirements | None
    source_roots: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def declared(located: Located, block: Block | None, given: str | None) -> Declared | None:
    """The first written source, None if there is none. ``given``: ``--requirements``.

    Raises:
        UsageError: the source cannot be read or holds what cannot travel; file and line are named.
    """
    if block is not None and block.dependencies is not None:
        for line in block.dependencies:
            requirements_file.check(line, f"{located.typed}, dependencies")
        return _made(list(block.dependencies), "pep723", block.requires_python)
    beside = f"{os.path.dirname(located.path) or located.cwd}/requirements.txt"
    path = os.path.join(located.cwd, given) if given else beside
    requires = block.requires_python if block else ""
    if given or os.path.isfile(path):
        parsed = requirements_file.read(path, os.path.relpath(path, located.cwd))
        found = _made(parsed.lines, "requirements.txt", requires, parsed.options)
        if parsed.left_out:
            left = ", ".join(dict.fromkeys(parsed.left_out))
            return Declared(found.requirements, (f"{os.path.relpath(path, located.cwd)}: {left} stay here",))
        return found
    return _pyproject(located, requires)


def _made(lines: Sequence[str], source: str, requires: str, options: Sequence[str] = ()) -> Declared:
    made: Requirements = {"lines": list(lines), "source": source, "requires_python": requires, "exact": False}
    if options:
        made["options"] = list(options)
    return Declared(made)


def _pyproject(located: Located, requires: str) -> Declared | None:
    folder = os.path.dirname(located.path) or located.cwd
    while not os.path.isfile(path := f"{folder}/pyproject.toml"):
        if folder in located.projects or not located.owns(folder):
            return None
        folder = os.path.dirname(folder)
    document = _toml(path, os.path.relpath(path, located.cwd))
    project = document.get("project")
    lines = project.get("dependencies") if isinstance(project, dict) else None
    if not isinstance(project, dict) or not isinstance(lines, list) or not lines:
        return None
    shown = os.path.relpath(path, located.cwd)
    members = _own_sources(document)
    kept = [str(line) for line in lines if requirements_file.canonical(str(line)) not in members]
    for line in kept:
        requirements_file.check(line, shown)
    pinned = _uv_pins(f"{folder}/uv.lock", kept)
    python = requires or str(project.get("requires-python", ""))
    made = _made(pinned or kept, "lock" if pinned else "pyproject", python)
    dropped = sorted(members & {requirements_file.canonical(str(line)) for line in lines})
    notes = (f"{shown}: {', '.join(dropped)} come from local sources and are not installed",) if dropped else ()
    return Declared(made.requirements, notes)


def _own_sources(document: Mapping[str, Any]) -> set[str]:
    """Names that ``[tool.uv.sources]`` takes from paths or version control instead of an index."""
    sources = document.get("tool", {}).get("uv", {}).get("sources", {})
    local = {"path", "git", "workspace", "url"}
    return {requirements_file.canonical(name) for name, source in sources.items() if local & set(source)}


def _uv_pins(path: str, lines: Sequence[str]) -> list[str] | None:
    """The lines pinned to a ``uv.lock``; None if there is none or it holds two versions of one of them."""
    if not os.path.isfile(path):
        return None
    versions: dict[str, set[str]] = {}
    for package in _toml(path, path).get("package", []):
        versions.setdefault(str(package.get("name", "")), set()).add(str(package.get("version", "")))
    pins = []
    for line in lines:
        found = versions.get(requirements_file.canonical(line), set())
        if len(found) != 1 or "@" in line:
            return None
        head, semicolon, marker = line.partition(";")
        extras = head[head.index("[") : head.index("]") + 1] if "[" in head and "]" in head else ""
        pins.append(f"{requirements_file.canonical(line)}{extras}=={found.pop()}{semicolon}{marker}")
    return pins


def _toml(path: str, show: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{show}: {error.strerror}.", hint="Check its permissions.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{show} is not valid TOML: {error}.", hint="Correct it, or name --requirements FILE."
        ) from error


def from_environment(
    wanted: Sequence[Wanted], python: Interpreter, located: Located, environ: Mapping[str, str]
) -> FromEnvironment:
    """Look the wanted modules up in the user's interpreter and pin them to its versions.

    Raises:
        UsageError: a module that nothing provides (each import is named by file and line), or one whose package
            cannot be had from an index.
    """
    pins: dict[str, str] = {}
    roots: list[str] = []
    unknown: list[str] = []
    for want in wanted:
        top = want.module.partition(".")[0]
        if top in python.stdlib:
            continue
        providers = python.providers(want.module)
        if not providers and not want.optional:
            place = interpreters.locate_module(python.path, top, environ)
            own = _import_root(place, python, located)
            if own:
                roots.append(own)
            else:
                unknown.append(_unknown(want, python, located, place))
        for dist in providers:
            root = _source_root(dist, want, located)
            if root:
                roots += [path for path in (f"{root}/src", root) if path not in roots]
            else:
                pins[requirements_file.canonical(dist.name)] = f"{dist.name}=={dist.version.partition('+')[0]}"
    if unknown:
        raise UsageError(
            "\n".join(dict.fromkeys(unknown)),
            hint=f"Install it into {python.path}, or list it in a requirements.txt beside the script.",
        )
    if not pins:
        return FromEnvironment(None, tuple(roots))
    lines = [pins[name] for name in sorted(pins)]
    shown = ", ".join(line.replace("==", " ") for line in lines[:5]) + (
        f" and {len(lines) - 5} more" if lines[5:] else ""
    )
    where = os.path.relpath(python.path, located.cwd) if located.owns(python.path) else python.path
    return FromEnvironment(
        {"lines": lines, "source": "environment", "requires_python": "", "exact": False},
        tuple(roots),
        (f"no requirements file: taking {shown} as installed in {where}",),
    )


def _import_root(place: str, python: Interpreter, located: Located) -> str:
    """The directory that a module of the user's own is imported from: in the project, or in a source install."""
    own = [
        unquote(urlsplit(str(d.origin.get("url", ""))).path) for d in python.dists.values() if "dir_info" in d.origin
    ]
    if not place or not (located.owns(place) or any(place.startswith(root + "/") for root in own)):
        return ""
    folder = os.path.dirname(place)
    return os.path.dirname(folder) if os.path.basename(place) == "__init__.py" else folder


def _unknown(want: Wanted, python: Interpreter, located: Located, place: str) -> str:
    top = want.module.partition(".")[0]
    at = f"{os.path.relpath(want.file, located.cwd)}:{want.line}" if want.line else f"-m {located.typed}"
    if place:
        return f"{at} imports {top}, which your Python has at {place} but no installed package provides."
    return f"{at} imports {top}, which is neither part of the project nor installed in your Python ({python.path})."


def _source_root(dist: Distribution, want: Wanted, located: Located) -> str | None:
    """The directory of a source install; None for a package from an index. Raises UsageError for anything else."""
    url = str(dist.origin.get("url", ""))
    if not url:
        return None
    at = f"{os.path.relpath(want.file, located.cwd)}:{want.line}"
    if "dir_info" in dist.origin:
        root = unquote(urlsplit(url).path)
        if os.path.isdir(root):
            return root
        raise UsageError(
            f"{at} imports {dist.name}, which was installed from {root}, which is gone.", hint="Install it anew."
        )
    if url.startswith("https://") and "vcs_info" not in dist.origin:
        return None
    raise UsageError(
        f"{at} imports {dist.name}, which was installed from {url} and cannot be had from an index.",
        hint="Install a released version of it, or list one in a requirements.txt beside the script.",
    )
