"""Paths that Python code computes from literals: ``Path(__file__).parent / "data" / "x.csv"`` and its kin."""

from __future__ import annotations

import ast
import os
from typing import Final

_SAME: Final = frozenset(
    {"abspath", "realpath", "normpath", "expanduser", "resolve", "absolute", "str", "fspath", "as_posix"}
)
_JOINS: Final = frozenset({"Path", "PurePath", "PosixPath", "join", "joinpath"})
_HERE: Final = frozenset({"getcwd", "cwd"})


class Paths:
    """Folds expressions of one file into paths. Relative ones stay as they are: their base is the caller's matter."""

    def __init__(self, file: str, cwd: str) -> None:
        """``file``: what ``__file__`` is, absolute; ``cwd``: the working directory, absolute."""
        self._file = file
        self._cwd = cwd
        self._names: dict[str, str] = {}

    def assign(self, name: str, value: ast.expr) -> None:
        """Remember ``name = value`` if the value can be folded; forget the name if not."""
        folded = self.fold(value)
        if folded is None:
            self._names.pop(name, None)
        else:
            self._names[name] = folded

    def fold(self, node: ast.expr) -> str | None:
        """The string or path that an expression is, or None if that cannot be told."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return self._file if node.id == "__file__" else self._names.get(node.id)
        if isinstance(node, ast.BinOp):
            return self._operation(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Attribute):
            inner = self.fold(node.value) if node.attr == "parent" else None
            return None if inner is None else os.path.dirname(inner)
        if isinstance(node, ast.Subscript):
            return self._ancestor(node)
        if isinstance(node, ast.JoinedStr):
            parts = [
                self.fold(value.value if isinstance(value, ast.FormattedValue) else value) for value in node.values
            ]
            return None if None in parts else "".join(part for part in parts if part is not None)
        return None

    def _operation(self, node: ast.BinOp) -> str | None:
        left = self.fold(node.left)
        right = self.fold(node.right) if left is not None else None
        if left is None or right is None:
            return None
        if isinstance(node.op, ast.Div):
            return os.path.join(left, right)
        return left + right if isinstance(node.op, ast.Add) else None

    def _call(self, node: ast.Call) -> str | None:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in _HERE:
            return self._cwd
        if name in ("dirname", *_SAME):
            value = self.fold(node.args[0]) if node.args else (self.fold(receiver) if receiver else None)
            if value is None:
                return None
            if name == "dirname":
                return os.path.dirname(value)
            if name in ("abspath", "realpath", "resolve", "absolute"):
                return os.path.normpath(os.path.join(self._cwd, value))
            return os.path.expanduser(value) if name == "expanduser" else value
        if name in _JOINS:
            parts = [self.fold(arg) for arg in node.args]
            if name == "joinpath" and receiver is not None:
                parts.insert(0, self.fold(receiver))
            return os.path.join(*(p for p in parts if p is not None)) if parts and None not in parts else None
        return None

    def _ancestor(self, node: ast.Subscript) -> str | None:
        """``path.parents[n]``."""
        if not (isinstance(node.value, ast.Attribute) and node.value.attr == "parents"):
            return None
        inner = self.fold(node.value.value)
        if inner is None or not isinstance(node.slice, ast.Constant) or not isinstance(node.slice.value, int):
            return None
        for _ in range(node.slice.value + 1):
            inner = os.path.dirname(inner)
        return inner

    def tail(self, node: ast.expr) -> str | None:
        """What can be told of a joined path whose start cannot: ``data/x.csv`` for ``root / "data" / "x.csv"``."""
        parts: list[str] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", "")
            rest = node.args if name == "joinpath" else node.args[1:] if name == "join" else []
            parts = [part for arg in rest if (part := self.fold(arg)) is not None]
            return "/".join(parts) if parts and len(parts) == len(rest) else None
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            part = self.fold(node.right)
            if part is None:
                return None
            parts.insert(0, part)
            node = node.left
        return "/".join(parts) if parts else None

    def listing(self, node: ast.Call) -> str | None:
        """The glob that a call lists, for ``os.listdir``, ``os.walk``, ``glob.glob``, ``Path.glob`` and their kin."""
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name not in ("listdir", "scandir", "walk", "glob", "iglob", "rglob", "iterdir"):
            return None
        receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
        first = self.fold(node.args[0]) if node.args else None
        if name in ("listdir", "scandir", "walk"):
            return None if first is None else f"{first}/{'**/*' if name == 'walk' else '*'}"
        if name == "iglob" or receiver is None or (isinstance(receiver, ast.Name) and receiver.id == "glob"):
            return first
        folder = self.fold(receiver)
        if folder is None or (first is None and name != "iterdir"):
            return None
        return f"{folder}/{'*' if name == 'iterdir' else f'**/{first}' if name == 'rglob' else first}"
