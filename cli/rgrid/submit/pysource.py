"""What one Python file says about itself: its imports, the paths and options that stand in it as literals.

The file is parsed, never run. One walk in source order; a file that cannot be parsed by this Python says nothing.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from rgrid.submit.pathcode import Paths

_IMPORT_ERRORS: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_CONDITIONS: Final = frozenset({"TYPE_CHECKING", "version_info", "platform", "system", "name", "PY2", "PY3"})
_PARAMETERS_ARE_OPTIONS: Final = frozenset(
    {"typer", "fire", "tyro", "cyclopts", "jsonargparse", "clize", "plac", "argh"}
)
_FIELDS_ARE_OPTIONS: Final = frozenset(
    {"tyro", "simple_parsing", "transformers", "jsonargparse", "tap", "pydantic_settings", "hydra", "chz"}
)
_OPTION: Final = re.compile(r"--[A-Za-z][\w-]*")
_MAX_TEXT: Final = 1024


class Import(NamedTuple):
    """One import. ``level``: leading dots. ``names``: of a ``from`` import. ``optional``: the file can do without."""

    module: str
    level: int
    names: tuple[str, ...]
    line: int
    optional: bool


@dataclass(slots=True)
class Source:
    """What a file says.

    ``paths``: literals and joined literals that may name files; ``reads``: globs of what it lists; ``search``:
    directories that it puts on ``sys.path``; ``options``: long options that it declares; ``packages``: those it imports
    from by computed names (``""``: its own); ``exported``: ``__all__``; ``problem``: why it could not be parsed.
    """

    path: str
    imports: list[Import] = field(default_factory=list)
    paths: dict[str, int] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)
    search: list[str] = field(default_factory=list)
    options: set[str] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)
    exported: list[str] = field(default_factory=list)
    problem: str = ""


def parse(path: str, text: bytes, cwd: str) -> Source:
    """Read what a file says. ``cwd``: what ``os.getcwd()`` in it stands for."""
    source = Source(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError as error:
        source.problem = f"line {error.lineno}: {error.msg}"
        return source
    except (ValueError, RecursionError) as error:
        source.problem = str(error)
        return source
    _Walk(source, Paths(path, cwd)).run(tree)
    return source


class _Walk:
    def __init__(self, source: Source, paths: Paths) -> None:
        self._source = source
        self._paths = paths
        self._parameters: set[str] = set()
        self._fields: set[str] = set()
        self._docstrings: list[str] = []

    def run(self, tree: ast.Module) -> None:
        stack: list[tuple[ast.AST, bool]] = [(tree, False)]
        while stack:
            node, optional = stack.pop()
            children = self._visit(node, optional)
            if children is None:
                stack.extend((child, optional) for child in reversed(list(ast.iter_child_nodes(node))))
            else:
                stack.extend(reversed(children))
        self._declare()

    def _visit(self, node: ast.AST, optional: bool) -> list[tuple[ast.AST, bool]] | None:
        """Take note of a node; its children with their own ``optional``, or None for all with the present one."""
        if isinstance(node, ast.Constant):
            self._text(node)
        elif isinstance(node, ast.Call):
            self._call(node, optional)
        elif isinstance(node, ast.BinOp | ast.JoinedStr):
            self._path(node)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self._source.imports.append(Import(alias.name, 0, (), node.lineno, optional))
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            self._source.imports.append(Import(node.module or "", node.level, names, node.lineno, optional))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            self._assign(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                self._docstrings.append(node.value.value)
            return []
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            arguments = node.args
            self._parameters.update(a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))
            return [(child, True) for child in ast.iter_child_nodes(node)]
        else:
            return self._guard(node, optional)
        return None

    def _guard(self, node: ast.AST, optional: bool) -> list[tuple[ast.AST, bool]] | None:
        """Whether the node shields the imports in it: they may then be missing."""
        if isinstance(node, ast.Try | ast.TryStar):
            shielded = optional or any(_catches_import_error(handler.type) for handler in node.handlers)
            return [
                *((child, shielded) for child in node.body),
                *((child, shielded) for handler in node.handlers for child in handler.body),
                *((child, optional) for child in (*node.orelse, *node.finalbody)),
            ]
        if isinstance(node, ast.If) and any(_named(part) in _CONDITIONS for part in ast.walk(node.test)):
            return [(node.test, optional), *((child, True) for child in (*node.body, *node.orelse))]
        if isinstance(node, ast.With):
            suppressed = optional or any(
                isinstance(item.context_expr, ast.Call)
                and _named(item.context_expr.func) == "suppress"
                and any(_catches_import_error(arg) for arg in item.context_expr.args)
                for item in node.items
            )
            return [*((item, optional) for item in node.items), *((child, suppressed) for child in node.body)]
        return None

    def _text(self, node: ast.Constant) -> None:
        text = node.value
        if not isinstance(text, str) or not text or len(text) > _MAX_TEXT:
            return
        if text.startswith("-"):
            self._source.options.update(_OPTION.findall(text))
        if "\n" not in text and "\0" not in text:
            self._source.paths.setdefault(text, node.lineno)

    def _path(self, node: ast.expr) -> None:
        found = self._paths.fold(node) or self._paths.tail(node)
        if found and len(found) <= _MAX_TEXT:
            self._source.paths.setdefault(found, node.lineno)

    def _assign(self, node: ast.Assign | ast.AnnAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if isinstance(node, ast.AnnAssign):
            self._fields.update(names)
        if node.value is None:
            return
        if "__all__" in names and isinstance(node.value, ast.List | ast.Tuple):
            self._source.exported += [
                e.value for e in node.value.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)
            ]
        for name in names:
            self._paths.assign(name, node.value)

    def _call(self, node: ast.Call, optional: bool) -> None:
        name = _named(node.func)
        first = node.args[0] if node.args else None
        if name in ("import_module", "__import__") and first is not None:
            self._import_call(first, node.lineno, optional)
        elif name in ("iter_modules", "walk_packages"):
            self._source.packages.add("")
        elif name in ("insert", "append", "extend") and _is_sys_path(node.func):
            self._search(node.args[-1] if node.args else None)
        elif name.startswith("DEFINE_") and isinstance(first, ast.Constant) and isinstance(first.value, str):
            self._source.options.add(f"--{first.value}")
        else:
            pattern = self._paths.listing(node)
            if pattern:
                self._source.reads.setdefault(pattern, node.lineno)
            self._path(node)

    def _import_call(self, first: ast.expr, line: int, optional: bool) -> None:
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            module = first.value.lstrip(".")
            self._source.imports.append(Import(module, len(first.value) - len(module), (), line, optional))
        elif isinstance(first, ast.JoinedStr) and first.values and isinstance(first.values[0], ast.Constant):
            self._source.packages.add(str(first.values[0].value).rpartition(".")[0].strip("."))
        else:
            self._source.packages.add("")

    def _search(self, node: ast.expr | None) -> None:
        for part in node.elts if isinstance(node, ast.List | ast.Tuple) else [node]:
            found = self._paths.fold(part) if part is not None else None
            if found is not None:
                self._source.search.append(found)

    def _declare(self) -> None:
        """Options that are declared by other means than a literal ``--name``."""
        tops = {entry.module.partition(".")[0] for entry in self._source.imports}
        names: set[str] = set()
        if tops & _PARAMETERS_ARE_OPTIONS:
            names |= self._parameters
        if tops & _FIELDS_ARE_OPTIONS:
            names |= self._fields
        for name in names:
            self._source.options.update((f"--{name}", f"--{name.replace('_', '-')}"))
        if "docopt" in tops:
            for text in self._docstrings:
                self._source.options.update(_OPTION.findall(text))


def _named(node: ast.AST) -> str:
    """The last part of a name: ``b`` for ``b`` and for ``a.b``."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _is_sys_path(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and _named(function.value) == "path"


def _catches_import_error(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    return any(_named(part) in _IMPORT_ERRORS for part in (kind.elts if isinstance(kind, ast.Tuple) else [kind]))
