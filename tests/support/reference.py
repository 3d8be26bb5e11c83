"""The reference part of docs/cli.md, written from the commands themselves.

``PYTHONPATH=tests python -m support.reference`` puts it into the page; ``tests/test_docs.py`` holds the page to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from rgrid.main import VERBS, command

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
MARK = "## Reference\n"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by what is typed for it; ``init`` is ``login`` by another name."""
    for verb in VERBS:
        built = command(verb)
        if isinstance(built, click.Group):
            for name, inner in built.commands.items():
                yield f"rgrid {verb} {name}", inner
        elif verb != "init":
            yield f"rgrid {verb}", built


def section(path: str, built: click.Command) -> str:
    """One command: how it is typed, what it is for, and its options with the words of ``--help``."""
    context = click.Context(built, info_name=path)
    parts = [f"### `{path} {' '.join(built.collect_usage_pieces(context))}`", "", (built.help or "").strip(), ""]
    rows = []
    for param in built.params:
        record = param.get_help_record(context) if param.param_type_name == "option" else None
        if record:
            name, words = (" ".join(part.split()).replace("|", "\\|") for part in record)
            rows.append(f"| `{name}` | {words} |")
    if rows:
        parts += ["| option | meaning |", "|---|---|", *rows, ""]
    return "\n".join(parts)


def reference() -> str:
    """All commands, in the order of ``rgrid --help``."""
    return "\n" + "\n".join(section(path, built) for path, built in commands())


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(MARK) + len(MARK)] + reference())
