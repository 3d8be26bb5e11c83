"""Inline script metadata (PEP 723): dependencies, Python version and ``[tool.rgrid]`` in a script's comments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rgrid_shared.errors import UsageError

# The reference expression of the specification, https://packaging.python.org/en/latest/specifications/inline-script-metadata/
_BLOCK: Final = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
_OPENING: Final = re.compile(r"(?m)^#\s*///\s*script\s*$")
_HINT: Final = "The block is TOML behind `# `, between `# /// script` and `# ///` (PEP 723)."


@dataclass(frozen=True, slots=True)
class Block:
    """A script's block. ``dependencies``: None if it has no such key. ``settings``: ``[tool.rgrid]``."""

    dependencies: tuple[str, ...] | None = None
    requires_python: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)


def read(text: bytes, name: str) -> Block | None:
    """The block of a script, None if it has none; raises UsageError naming the line that is wrong.

    ``name``: how the script is called in messages.
    """
    if b"///" not in text:
        return None
    source = text.decode("utf-8", "replace").replace("\r\n", "\n")
    blocks = [match for match in _BLOCK.finditer(source + "\n") if match["type"] == "script"]
    if not blocks:
        opening = _OPENING.search(source)
        if opening:
            line = source.count("\n", 0, opening.start()) + 1
            raise UsageError(f"{name}:{line}: the metadata block is not closed or not all comment lines.", hint=_HINT)
        return None
    first = source.count("\n", 0, blocks[0].start()) + 1
    if len(blocks) > 1:
        second = source.count("\n", 0, blocks[1].start()) + 1
        raise UsageError(f"{name}:{second}: a second metadata block (the first is at line {first}).", hint=_HINT)
    return _parse(blocks[0]["content"], name, first)


def _parse(content: str, name: str, first: int) -> Block:
    import tomllib

    lines = [line[2:] if line.startswith("# ") else line[1:] for line in content.splitlines()]
    try:
        document = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = first + (int(found[1]) if found else 0)
        problem = str(error).partition(" (at ")[0]
        raise UsageError(f"{name}:{line}: the metadata block is not valid TOML: {problem}.", hint=_HINT) from error
    dependencies = document.get("dependencies")
    if dependencies is not None and not (
        isinstance(dependencies, list) and all(isinstance(entry, str) for entry in dependencies)
    ):
        line = first + 1 + next((i for i, text in enumerate(lines) if text.startswith("dependencies")), 0)
        raise UsageError(f"{name}:{line}: dependencies is not a list of strings.", hint=_HINT)
    requires = document.get("requires-python", "")
    if not isinstance(requires, str):
        raise UsageError(f"{name}:{first}: requires-python is not a string.", hint='Write requires-python = ">=3.11".')
    tool = document.get("tool")
    settings = tool.get("rgrid") if isinstance(tool, dict) else None
    return Block(
        dependencies=None if dependencies is None else tuple(dependencies),
        requires_python=requires,
        settings=settings if isinstance(settings, dict) else {},
    )
