"""``rgrid completion``: a shell's completion script."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rgrid import output
from rgrid.verbs import application
from rgrid_shared.errors import UsageError

HOW = {
    "bash": 'eval "$(rgrid completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(rgrid completion zsh)"   in ~/.zshrc',
    "fish": "rgrid completion fish > ~/.config/fish/completions/rgrid.fish",
}

app = application()


@app.verb()
def completion(shell: Annotated[str, typer.Argument(help=f"One of: {', '.join(HOW)}.")]) -> None:
    """Print the script that makes a shell complete rgrid's commands and options.

    Put it to use with, for example: eval "$(rgrid completion bash)"
    """
    if shell not in HOW:
        raise UsageError(f"There is no completion for {shell!r}.", hint=f"One of: {', '.join(HOW)}")
    from click.shell_completion import get_completion_class

    from rgrid.main import COMPLETE, root

    kind = get_completion_class(shell)
    assert kind is not None
    output.write(kind(root(), {}, "rgrid", COMPLETE).source())
    if output.is_terminal(sys.stdout):
        output.say(HOW[shell])
