"""The ``rgrid`` command: finds the verb, runs it, and turns every end into an exit code.

A verb's module is imported when the verb is used: ``rgrid --help`` imports none of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, Final

import click
import typer
from typer.core import TyperGroup

from rgrid import output
from rgrid_shared import __version__
from rgrid_shared.errors import Internal, RgridError, UsageError

EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141
COMPLETE: Final = "_RGRID_COMPLETE"
"""Set by the shell when it asks for completions."""

VERBS: Final[dict[str, tuple[str, str]]] = {
    "run": ("run", "Run a script on the grid, once or for many inputs."),
    "status": ("status", "Show where a run or a batch stands."),
    "list": ("list_", "List runs and batches."),
    "logs": ("logs", "Show what a script has printed."),
    "attach": ("attach", "Watch a run or a batch again and bring its outputs home."),
    "wait": ("wait", "Wait until runs and batches have ended."),
    "outputs": ("outputs", "List the files that a run or a batch has made."),
    "download": ("download", "Bring those files here."),
    "cancel": ("cancel", "Stop a run or a batch."),
    "retry": ("retry", "Run items again."),
    "delete": ("delete", "Delete runs and batches that have ended."),
    "why": ("why", "Say why something waits, failed or stopped."),
    "runners": ("runners", "List the hosts that run scripts."),
    "runtimes": ("runtimes", "List what scripts can be run in."),
    "login": ("login", "Connect to a server and keep its key."),
    "init": ("login", "The same as login."),
    "keys": ("keys", "Make, list and revoke API keys."),
    "up": ("up", "Start the grid on this machine."),
    "down": ("down", "Stop the grid on this machine."),
    "doctor": ("doctor", "Check every part and say what to do."),
    "completion": ("completion", "Print a shell's completion script."),
}


class Verbs(TyperGroup):
    """The verbs, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and build its command; None if there is no such verb."""
        return command(cmd_name) if cmd_name in VERBS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; an unknown one is a usage error that names what may be meant."""
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, VERBS, n=2, cutoff=0.6)
            if os.path.isfile(name):  # noqa: PTH113 - importing pathlib for this one question is not worth it
                hint = f"Did you mean: rgrid run {name}"
            elif near:
                hint = "Did you mean: " + " or ".join(f"rgrid {verb}" for verb in near)
            else:
                hint = "rgrid --help lists the commands."
            raise UsageError(f"There is no command {name!r}.", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items() if name != "init"])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Verbs that begin with ``incomplete``, then the group's own options."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, text) in VERBS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def command(name: str) -> click.Command:
    """The click command of a verb."""
    module = import_module(f"rgrid.commands.{VERBS[name][0]}")
    built: click.Command = typer.main.get_command(module.app)
    built.name = name
    return built


def root() -> Verbs:
    """The whole command line as one click group."""
    app = typer.Typer(
        cls=Verbs,
        name="rgrid",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def rgrid(
        version: Annotated[bool, typer.Option("--version", "-V", help="Show the version and exit.")] = False,
    ) -> None:
        """Run scripts on the grid as if they ran here.

        `rgrid run SCRIPT [ARGS]…` is all that most people need: it runs the script, shows its output, exits with its
        code and brings its files back. Without a server it starts a grid on this machine.
        """
        if version:
            output.write(f"rgrid {__version__}")
            raise typer.Exit

    group = typer.main.get_command(app)
    assert isinstance(group, Verbs)
    return group


def run(argv: Sequence[str]) -> int:
    """Run a command line; returns its exit code and never raises."""
    output.prepare_streams()
    # For errors that come before the verb has read its own options. After a script's name --json is the script's.
    output.mode.json = "--json" in argv and (not argv or argv[0] != "run")
    code = _guarded(list(argv))
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return _broken_pipe()
    except OSError as error:
        return _unwritable(error)
    return code


def _guarded(argv: list[str]) -> int:
    try:
        return _invoke(argv)
    except RgridError as error:
        output.show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as error:  # noqa: BLE001 - the one place that turns a fault of our own into an exit code
        return _unexpected(error)


def _invoke(argv: list[str]) -> int:
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(root(), {}, "rgrid", COMPLETE, instruction)
    try:
        result = root().main(args=argv, prog_name="rgrid", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stdout.write(error.format_message() + "\n")
        return 0
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "rgrid"
        raise UsageError(error.format_message(), hint=f"{path} --help") from error
    except click.ClickException as error:
        raise UsageError(error.format_message()) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return result if isinstance(result, int) else 0


def _broken_pipe() -> int:
    """Nobody reads: stay silent, also when Python flushes stdout at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(devnull, stream.fileno())
    return EXIT_BROKEN_PIPE


def _unwritable(error: OSError) -> int:
    """What was printed cannot be written, for example to a full disk."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    output.mode.json = False
    output.show_error(Internal(f"What was printed cannot be written: {error.strerror}."))
    return Internal.exit_code


def _unexpected(error: Exception) -> int:
    if os.environ.get("RGRID_DEBUG"):
        import traceback

        traceback.print_exception(error)
        return Internal.exit_code
    output.show_error(
        Internal(f"{type(error).__name__}: {error}", hint="Run it again with RGRID_DEBUG=1 for the details.")
    )
    return Internal.exit_code
