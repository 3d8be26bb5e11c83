"""Which files of its own project a script imports, and which modules it wants from elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rgrid.submit.listings import Listings
from rgrid.submit.locate import Located
from rgrid.submit.pysource import Import, Source

Read = Callable[[str], Source]


class Wanted(NamedTuple):
    """A module that no file of the project provides: its dotted name and where it is imported."""

    module: str
    file: str
    line: int
    optional: bool


@dataclass(slots=True)
class Closure:
    """What a script brings along. Paths are absolute.

    ``sources``: Python files of its own, in the order in which they were found, the script first; ``binaries``:
    extension modules; ``wanted``: what must come from elsewhere; ``search``: import roots that Python will not find by
    itself on the runner.
    """

    sources: dict[str, Source] = field(default_factory=dict)
    binaries: list[str] = field(default_factory=list)
    wanted: list[Wanted] = field(default_factory=list)
    search: list[str] = field(default_factory=list)


class ImportSearch:
    """Follows imports from the script through its project; ``found`` grows with each ``run`` and ``include``."""

    def __init__(
        self, located: Located, read: Read, *, environ: Mapping[str, str], extra_roots: Iterable[str] = ()
    ) -> None:
        """``read`` parses a file. ``extra_roots``: directories that hold editable installs.

        ``PYTHONPATH`` in ``environ`` counts where it points into the project.
        """
        self._located = located
        self._read = read
        self.found = Closure()
        self._names = Listings()
        self._todo: list[str] = []
        self._roots = [located.import_root]
        named = [os.path.normpath(os.path.join(located.cwd, p)) for p in environ.get("PYTHONPATH", "").split(":") if p]
        inside = [path for path in named if path in located.projects or located.owns(path)]
        layouts = [
            path
            for project in located.projects
            if self._names.of(project) & {"pyproject.toml", "setup.py", "setup.cfg"}
            for path in (f"{project}/src", project)
        ]
        self._outside_roots = [*inside, *extra_roots, *layouts]

    def run(self) -> None:
        """Start from the script (or the module)."""
        if self._located.path:
            self._add(self._located.path)
        if self._located.module:
            self._import(Import(self._located.typed, 0, (), 0, False), self._located.path or self._located.cwd + "/-m")
        self._drain()

    def include(self, path: str) -> None:
        """Go on from another file that is known to be run or read, with its directory as an import root."""
        folder = os.path.dirname(path)
        if folder not in self._roots:
            self._roots.append(folder)
        self._add(path)
        self._drain()

    def _drain(self) -> None:
        while self._todo:
            source = self.found.sources[self._todo.pop()]
            for folder in source.search:
                root = os.path.normpath(os.path.join(self._located.cwd, folder))
                if root not in self._roots and (root in self._located.projects or self._located.owns(root)):
                    self._roots.append(root)
            for entry in source.imports:
                self._import(entry, source.path)
            for package in source.packages:
                self._whole_package(package, source.path)

    def _add(self, path: str) -> None:
        if path not in self.found.sources:
            self.found.sources[path] = self._read(path)
            self._todo.append(path)

    def _import(self, entry: Import, importer: str) -> None:
        if entry.level:
            folder = os.path.dirname(importer)
            for _ in range(entry.level - 1):
                folder = os.path.dirname(folder)
            self._take(folder, entry.module.split(".") if entry.module else [], entry)
            return
        parts = entry.module.split(".")
        if parts[0] in ("__main__", ""):
            return
        for root in self._roots:
            if self._provides(root, parts[0]) and self._take(root, parts, entry):
                return
        if parts[0] in sys.stdlib_module_names:
            return
        for root in self._outside_roots:
            if self._provides(root, parts[0]) and self._take(root, parts, entry):
                if root not in self.found.search and root not in self._roots:
                    self.found.search.append(root)
                return
        namespace = any(self._take(root, parts, entry) for root in self._roots if parts[0] in self._names.of(root))
        if not namespace:
            modules = [entry.module] if not entry.names else [f"{entry.module}.{name}" for name in entry.names]
            self.found.wanted += [Wanted(module, importer, entry.line, entry.optional) for module in modules]

    def _provides(self, root: str, name: str) -> bool:
        """True if a directory holds a regular module or package of that name (no mere namespace directory)."""
        names = self._names.of(root)
        if f"{name}.py" in names or (name in names and "__init__.py" in self._names.of(f"{root}/{name}")):
            return True
        return any(_is_binary(other, name) for other in names)

    def _take(self, folder: str, parts: list[str], entry: Import) -> bool:
        """Take the files of ``parts`` below ``folder``, and of the names imported from it; False if there is none."""
        found = False
        here = folder
        for part in parts:
            names = self._names.of(here)
            inner = f"{here}/{part}"
            if part in names and "__init__.py" in self._names.of(inner):
                self._add(f"{inner}/__init__.py")
                found = True
            elif f"{part}.py" in names:
                self._add(f"{inner}.py")
                return True
            elif any(_is_binary(name, part) for name in names):
                self.found.binaries += [f"{here}/{name}" for name in sorted(names) if _is_binary(name, part)]
                return True
            elif part not in names:
                return found
            here = inner
        names = self._names.of(here)
        if "__init__.py" in names and (parts or entry.level):
            self._add(f"{here}/__init__.py")
            found = True
        for name in self._imported_names(entry, here):
            if f"{name}.py" in names:
                self._add(f"{here}/{name}.py")
                found = True
            elif name in names and "__init__.py" in self._names.of(f"{here}/{name}"):
                self._add(f"{here}/{name}/__init__.py")
                found = True
            else:
                binaries = [f"{here}/{other}" for other in sorted(names) if _is_binary(other, name)]
                self.found.binaries += binaries
                found = found or bool(binaries)
        return found

    def _imported_names(self, entry: Import, folder: str) -> Iterable[str]:
        if entry.names != ("*",):
            return entry.names
        package = self.found.sources.get(f"{folder}/__init__.py")
        return package.exported if package else ()

    def _whole_package(self, package: str, importer: str) -> None:
        """A package whose modules are imported by computed names: all of them may be needed."""
        folder = os.path.dirname(importer)
        if package:
            folder = next(
                (path for root in self._roots if self._names.of(path := f"{root}/{package.replace('.', '/')}")), ""
            )
        elif "__init__.py" not in self._names.of(folder):
            return
        if folder:
            self._tree(folder)

    def _tree(self, folder: str) -> None:
        for name in sorted(self._names.of(folder)):
            path = f"{folder}/{name}"
            if name.endswith(".py"):
                self._add(path)
            elif "." not in name and name != "__pycache__" and os.path.isdir(path):
                self._tree(path)


def _is_binary(name: str, module: str) -> bool:
    return name.startswith(f"{module}.") and name.endswith((".so", ".pyd")) and not name.startswith("_.")
