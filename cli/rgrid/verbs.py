"""How a verb is made: the Typer application of a command's file, its help, and the options that many verbs share.

Help is plain text (laying it out with rich costs 60 ms); options are grouped by their ``rich_help_panel`` all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import click
import typer
from typer.core import TyperCommand

PLAIN: Final = "Options"
Function = TypeVar("Function", bound=Callable[..., Any])


class Verb(TyperCommand):
    """A command whose help groups the options by panel."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments, then each panel's options, then those without a panel."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            fallback = "Arguments" if param.param_type_name == "argument" else PLAIN
            panels.setdefault(getattr(param, "rich_help_panel", None) or fallback, []).append(record)
        last = panels.pop(PLAIN, [])
        for title, rows in [*panels.items(), (PLAIN, last)]:
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=34)


class Application(typer.Typer):
    """Typer with the house's settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            add_completion=False,
            pretty_exceptions_enable=False,
            rich_markup_mode=None,
            no_args_is_help=settings.pop("no_args_is_help", False),
            **settings,
        )

    def verb(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """Register a function as the verb (or as one of a group's)."""
        decorate: Callable[[Function], Function] = self.command(name, cls=settings.pop("cls", Verb), **settings)
        return decorate


def application(**settings: Any) -> Application:
    """What a command's file calls ``app``; its functions are registered by ``@app.verb()``."""
    return Application(**settings)


TARGET: Final = "A batch or execution: id, unique prefix, last or last:N."

Target = Annotated[str, typer.Argument(metavar="[TARGET]", help=f"{TARGET} Default: last.", show_default=False)]
Select = Annotated[
    str | None, typer.Argument(metavar="[ITEMS]", help="Items of the batch by index: 1,3-5.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one a line for streams.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print ids only.")]
Utc = Annotated[bool, typer.Option("--utc", help="Show times in UTC.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Profile = Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Use this profile's server and key.")]
ServerUrl = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="Talk to this server (`local`: the embedded grid).")
]
